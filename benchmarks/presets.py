"""What every preset costs: processor seconds per step and peak memory on a small task, relative to GRPO.

Every measurement is a fresh process that trains a recipe for a few steps; recipes in turn, GRPO before each of them,
several rounds; a ratio is that of a recipe to the GRPO beside it, and medians are shown. Processor time, not time: what
else the machine does counts less. The recipes are those of recipes/demo, which need a world (``ptdpo data demo-world N
--out runs/worlds/N``), or with ``--recipes runs/study/all/recipes`` the arms of a study that has been begun.
Writes results/presets.json, after every recipe.
Run: make bench, or python benchmarks/presets.py --help
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
BASELINE, WARM_UP = "grpo", 1


def train_here(recipe: Path, world: int, steps: int) -> dict[str, float]:
    """Train in this process and return the mean processor seconds of a step, and the peak memory of the process."""
    import transformers.trainer

    from ptdpo.config import read_recipe
    from ptdpo.train.run import train_recipe

    ends: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            ends.append(time.process_time())

    transformers.trainer.DEFAULT_CALLBACKS.append(Clock)
    with tempfile.TemporaryDirectory() as folder:
        changes = [f"seed={world}", f"max_steps={WARM_UP + steps}", f"output_dir={folder}", "disable_tqdm=true"]
        parsed = read_recipe(recipe, [*changes, "logging_steps=1"])
        train_recipe(parsed)
    return {
        "seconds": (ends[-1] - ends[WARM_UP - 1]) / steps,
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
    parser.add_argument("--recipes", type=Path, default=Path("recipes/demo"), help="folder of recipes")
    parser.add_argument("--world", type=int, default=0)
    parser.add_argument("--steps", type=int, default=6, help="timed steps per run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=None, help="recipes; by default all")
    parser.add_argument("--out", type=Path, default=RESULTS / "presets.json")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(train_here(options.one, options.world, options.steps)))
        return
    folder = (ROOT / options.recipes).resolve()
    start = yaml.safe_load((folder / f"{BASELINE}.yaml").read_text())["model"].replace("{seed}", str(options.world))
    if not (ROOT / start).is_dir():
        parser.error(f"there is no model {start}: make it with ptdpo data demo-world, or begin the study")
    recipes = sorted(path for path in folder.glob("*.yaml") if options.only is None or path.stem in options.only)
    found: dict[str, list[tuple[dict[str, float], dict[str, float]]]] = {recipe.stem: [] for recipe in recipes}
    for _ in range(options.rounds):
        for recipe in track(recipes, "measuring", console=Console(stderr=True)):
            beside = measure(folder / f"{BASELINE}.yaml", options.world, options.steps)
            found[recipe.stem].append((measure(recipe, options.world, options.steps), beside))
            # What is there is kept if the rest is cut off.
            write(options, found)
    table = Table("recipe", "processor seconds per step", f"/ {BASELINE}", "peak MiB", f"/ {BASELINE}")
    for row in write(options, found):
        name, *cells = (row[key] for key in ("recipe", "seconds", "seconds_ratio", "mib", "mib_ratio"))
        table.add_row(str(name), *(f"{cell:.2f}" for cell in cells))
    Console().print(table)


def write(options: argparse.Namespace, found: dict) -> list[dict[str, float | str]]:
    """Write what was measured so far; returns a row per recipe."""
    rows: list[dict[str, float | str]] = []
    for name, pairs in found.items():
        if not pairs:
            continue
        row: dict[str, float | str] = {"recipe": name}
        for key in ("seconds", "mib"):
            row[key] = statistics.median(own[key] for own, _ in pairs)
            row[f"{key}_ratio"] = statistics.median(own[key] / beside[key] for own, beside in pairs)
        rows.append(row)
    settings = {
        "recipes": str(options.recipes),
        "world": options.world,
        "steps": options.steps,
        "rounds": options.rounds,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"settings": settings, "runs": rows}, indent=1) + "\n")
    return rows


if __name__ == "__main__":
    main()
