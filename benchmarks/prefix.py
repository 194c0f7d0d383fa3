"""Scoring a group: shared prefix against the plain layout against TRL's scoring, forward and backward.

A small real Qwen3-VL, one image per prompt. Every measurement is a fresh process, the layouts in turn; figures are
medians with their range. Peak memory counts what the pass adds. Writes results/prefix.json.
Run: make bench, or python benchmarks/prefix.py --help
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ptdpo.models import TinyVLMSettings, load_model, load_processor, make_tiny_vlm
from ptdpo.tutor.head import ScoreRequest, add_scoring_head

RESULTS = Path(__file__).parent / "results"
LAYOUTS = ("shared", "plain", "TRL")
RATIOS = {"1:4": 4.0, "1:1": 1.0, "4:1": 0.25}
PASSES = 3


def make_model(folder: Path) -> None:
    # As in Qwen3-VL-2B an image costs about as much in the vision tower as in the language model.
    settings = TinyVLMSettings(hidden=256, layers=6, heads=8, key_value_heads=2, vision_hidden=192, vision_layers=4)
    make_tiny_vlm(folder, ["what is red, blue, green or yellow in the top row of this picture?"] * 50, settings)


def batch(folder: Path, group: int, ratio: float, side: int) -> tuple[dict[str, torch.Tensor], int]:
    """Return the plain layout of one group, and T; an image of side x side pixels has (side / 16)^2 visual tokens."""
    processor = load_processor(str(folder))
    processor.image_processor.size = {"shortest_edge": 16**2, "longest_edge": side**2}
    image = Image.linear_gradient("L").resize((side, side)).convert("RGB")
    text = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>" + "what is red in the top row? " * 5
    inputs = dict(processor(text=[text] * group, images=[[image]] * group, return_tensors="pt", padding=True))
    length = round(inputs["input_ids"].size(1) * ratio)
    responses = torch.randint(20, 200, (group, length), generator=torch.Generator().manual_seed(0))
    inputs["input_ids"] = torch.cat([inputs["input_ids"], responses], dim=1)
    for name, value in (("attention_mask", 1), ("mm_token_type_ids", 0)):
        inputs[name] = torch.cat([inputs[name], torch.full_like(responses, value)], dim=1)
    return inputs, length


def measure_here(folder: Path, layout: str, group: int, ratio: str, side: int) -> dict[str, object]:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    model = load_model(str(folder))
    inputs, length = batch(folder, group, RATIOS[ratio], side)
    targets = inputs["input_ids"][:, -length:]
    if layout == "TRL":
        from trl.trainer.utils import add_fused_lm_head

        add_fused_lm_head(model, temperature=1.0)
        labels = inputs["input_ids"].clone()
        labels[:, :-length] = -100
        arguments = {"labels": labels, "fused_lm_head": True}
    else:
        add_scoring_head(model, share_prefix=layout == "shared")
        arguments = {"score": ScoreRequest(targets, torch.ones_like(targets, dtype=torch.bool))}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    seconds = []
    for _ in range(PASSES):
        start = time.perf_counter()
        log_probs = model(**inputs, **arguments).log_probs[:, -length:]
        log_probs.sum().backward()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "seconds": min(seconds),
        "mib": (peak - before) / 2**20,
        "prompt": inputs["input_ids"].size(1) - length,
        "response": length,
        "log_prob": log_probs.sum().item(),
    }


def measure(folder: Path, layout: str, group: int, ratio: str, side: int) -> dict:
    command = [sys.executable, __file__, "--one", str(folder), layout, str(group), ratio, "--side", str(side)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=4, metavar=("FOLDER", "LAYOUT", "GROUP", "RATIO"), help="one measurement, here")
    parser.add_argument("--groups", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--ratios", nargs="+", choices=list(RATIOS), default=list(RATIOS))
    parser.add_argument("--side", type=int, default=128, help="of the image, in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, default=RESULTS / "prefix.json")
    options = parser.parse_args()
    if options.one:
        folder, layout, group, ratio = options.one
        print(json.dumps(measure_here(Path(folder), layout, int(group), ratio, options.side)))
        return
    found: dict[tuple[str, int, str], list[dict]] = {}
    with tempfile.TemporaryDirectory() as name:
        make_model(Path(name))
        cells = [(group, ratio) for group in options.groups for ratio in options.ratios]
        jobs = [(layout, *cell) for cell in cells for _ in range(options.repeats) for layout in LAYOUTS]
        for job in track(jobs, "measuring", console=Console(stderr=True)):
            found.setdefault(job, []).append(measure(Path(name), *job, options.side))
    rows = []
    for group, ratio in cells:
        shared, plain, trl = (found[(layout, group, ratio)] for layout in LAYOUTS)
        values = [run["log_prob"] for run in (*shared, *plain, *trl)]
        assert max(values) - min(values) < 1e-5 * abs(values[0]), "the layouts must compute the same"
        row = {"group": group, "ratio": ratio, "prompt": plain[0]["prompt"], "response": plain[0]["response"]}
        for label, runs in (("shared", shared), ("plain", plain), ("trl", trl)):
            row[f"{label}_seconds"] = statistics.median(run["seconds"] for run in runs)
            row[f"{label}_range"] = [min(run["seconds"] for run in runs), max(run["seconds"] for run in runs)]
            row[f"{label}_mib"] = statistics.median(run["mib"] for run in runs)
        rows.append(row)
    table = Table("G", "prompt : response", "plain / shared, time", "TRL / shared, time", "shared / plain, memory")
    for row in rows:
        table.add_row(
            str(row["group"]),
            f"{row['prompt']} : {row['response']}",
            f"{row['plain_seconds'] / row['shared_seconds']:.2f}",
            f"{row['trl_seconds'] / row['shared_seconds']:.2f}",
            f"{row['shared_mib'] / row['plain_mib']:.2f}",
        )
    Console().print(table)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    settings = {"repeats": options.repeats, "passes": PASSES, "side": options.side}
    options.json.write_text(json.dumps({**settings, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
