"""What every preset costs: seconds per step and peak memory on the demo's task, relative to GRPO.

Every measurement is a fresh process that trains a recipe of recipes/demo for a few steps; recipes in turn, several
rounds; medians. Needs a world (``ptdpo data demo-world N --out runs/worlds/N``). Writes results/presets.json.
Run: make bench, or python benchmarks/presets.py --help
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
BASELINE, WARM_UP = "grpo", 1


def train_here(recipe: Path, world: int, steps: int) -> dict[str, float]:
    """Train in this process and return the median seconds of a step, and the peak memory of the process."""
    from ptdpo.config import read_recipe
    from ptdpo.runlog import METRICS_FILE
    from ptdpo.train.metrics import read_metrics, step_seconds
    from ptdpo.train.run import train_recipe

    with tempfile.TemporaryDirectory() as folder:
        changes = [f"seed={world}", f"max_steps={WARM_UP + steps}", f"output_dir={folder}", "disable_tqdm=true"]
        parsed = read_recipe(recipe, [*changes, "logging_steps=1"])
        train_recipe(parsed)
        rows = read_metrics(Path(folder) / METRICS_FILE)[WARM_UP:]
    return {
        "seconds": statistics.median(step_seconds(rows)),
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure(recipe: Path, world: int, steps: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", str(recipe), "--world", str(world), "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{recipe.name}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", type=Path, help="one measurement, here")
    parser.add_argument("--world", type=int, default=0)
    parser.add_argument("--steps", type=int, default=6, help="timed steps per run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "presets.json")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(train_here(options.one, options.world, options.steps)))
        return
    if not (ROOT / f"runs/worlds/{options.world}/start").is_dir():
        parser.error(f"there is no world: ptdpo data demo-world {options.world} --out runs/worlds/{options.world}")
    recipes = sorted((ROOT / "recipes" / "demo").glob("*.yaml"))
    console = Console(stderr=True)
    found: dict[str, list[dict[str, float]]] = {recipe.stem: [] for recipe in recipes}
    for _ in range(options.rounds):
        for recipe in track(recipes, "measuring", console=console):
            found[recipe.stem].append(measure(recipe, options.world, options.steps))
    table = Table("recipe", "seconds per step", f"/ {BASELINE}", "peak MiB", f"/ {BASELINE}")
    rows = []
    base = {key: statistics.median(run[key] for run in found[BASELINE]) for key in ("seconds", "mib")}
    for name, runs in found.items():
        seconds, mib = (statistics.median(run[key] for run in runs) for key in ("seconds", "mib"))
        rows.append({"recipe": name, "seconds": seconds, "seconds_ratio": seconds / base["seconds"], "mib": mib})
        rows[-1]["mib_ratio"] = mib / base["mib"]
        table.add_row(
            name, f"{seconds:.2f}", f"{seconds / base['seconds']:.2f}", f"{mib:.0f}", f"{mib / base['mib']:.2f}"
        )
    Console().print(table)
    settings = {"world": options.world, "steps": options.steps, "rounds": options.rounds}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"settings": settings, "runs": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
