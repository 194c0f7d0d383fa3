"""Scoring a group: shared prefix against the plain layout against TRL's scoring, forward and backward.

A small real Qwen3-VL, or one with the widths of Qwen3-VL-2B and a quarter of its layers, and one image per prompt.
Every measurement is a fresh process, the layouts in turn; figures are medians with their range. Peak memory counts what
the pass adds. Writes results/prefix.json.
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
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import AutoConfig, Qwen3VLForConditionalGeneration

from ptdpo.models import TinyVLMSettings, load_model, load_processor, make_tiny_vlm
from ptdpo.tutor.head import ScoreRequest, add_scoring_head

RESULTS = Path(__file__).parent / "results"
LAYOUTS = ("shared", "plain", "TRL")
RATIOS = {"1:4": 4.0, "1:1": 1.0, "4:1": 0.25}
# Qwen3-VL-2B's published sizes, with a quarter of the layers of both towers.
QUARTER_2B = {
    "text_config": {
        "vocab_size": 151_936,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 7,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
    "vision_config": {
        "depth": 6,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_heads": 16,
        "out_hidden_size": 2048,
        "deepstack_visual_indexes": [1, 3, 4],
    },
}


@dataclass(frozen=True, slots=True)
class Cell:
    """What one measurement is of: an image of side x side pixels has (side / 16)^2 visual tokens.

    Responses are ``RATIOS[ratio]`` times as long as the prompt on average, from 1 - spread to 1 + spread of that.
    """

    side: int
    group: int
    ratio: str
    spread: float


def make_model(folder: Path, size: str) -> None:
    # The vision tower spends 1.4 times what the language model spends on a visual token, attention aside; in
    # Qwen3-VL-2B it is 0.9.
    settings = TinyVLMSettings(
        hidden=256, layers=6, heads=8, key_value_heads=2, vision_hidden=192, vision_layers=4, max_positions=16_384
    )
    make_tiny_vlm(folder, ["what is red, blue, green or yellow in the top row of this picture?"] * 50, settings)
    if size == "2b-quarter":
        config = AutoConfig.from_pretrained(folder)
        for part, sizes in QUARTER_2B.items():
            for name, value in sizes.items():
                setattr(getattr(config, part), name, value)
        config.text_config.rope_parameters["mrope_section"] = [24, 20, 20]
        Qwen3VLForConditionalGeneration(config).save_pretrained(folder)


def batch(folder: Path, cell: Cell) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return the plain layout of one group, and the [G, T] mask of its responses."""
    processor = load_processor(str(folder))
    processor.image_processor.size = {"shortest_edge": 16**2, "longest_edge": cell.side**2}
    image = Image.linear_gradient("L").resize((cell.side, cell.side)).convert("RGB")
    text = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>" + "what is red in the top row? " * 5
    inputs = dict(processor(text=[text] * cell.group, images=[[image]] * cell.group, return_tensors="pt", padding=True))
    mean = inputs["input_ids"].size(1) * RATIOS[cell.ratio]
    lengths = (mean * torch.linspace(1 - cell.spread, 1 + cell.spread, cell.group)).round().long()
    mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
    responses = torch.randint(20, 200, mask.shape, generator=torch.Generator().manual_seed(0)) * mask
    inputs["input_ids"] = torch.cat([inputs["input_ids"], responses], dim=1)
    for name, value in (("attention_mask", mask.long()), ("mm_token_type_ids", torch.zeros_like(responses))):
        inputs[name] = torch.cat([inputs[name], value], dim=1)
    return inputs, mask


def measure_here(folder: Path, layout: str, cell: Cell, passes: int) -> dict[str, float]:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    model = load_model(str(folder))
    inputs, mask = batch(folder, cell)
    longest = mask.size(1)
    targets = inputs["input_ids"][:, -longest:]
    if layout == "TRL":
        from trl.trainer.utils import add_fused_lm_head

        add_fused_lm_head(model, temperature=1.0)
        labels = inputs["input_ids"].clone()
        labels[:, -longest:][~mask] = -100
        labels[:, :-longest] = -100
        arguments = {"labels": labels, "fused_lm_head": True}
    else:
        add_scoring_head(model, share_prefix=layout == "shared")
        arguments = {"score": ScoreRequest(targets, mask)}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    seconds = []
    for _ in range(passes):
        start = time.perf_counter()
        log_prob = model(**inputs, **arguments).log_probs[:, -longest:][mask].sum()
        log_prob.backward()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "seconds": min(seconds),
        "mib": (peak - before) / 2**20,
        "prompt": inputs["input_ids"].size(1) - longest,
        "response": mask.sum().item() / cell.group,
        "log_prob": log_prob.item(),
    }


def measure(folder: Path, layout: str, cell: Cell, passes: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", str(folder), layout, json.dumps(asdict(cell)), str(passes)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{layout}, {cell} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def row_of(cell: Cell, found: dict[str, list[dict[str, float]]]) -> dict[str, object]:
    values = [run["log_prob"] for runs in found.values() for run in runs]
    assert max(values) - min(values) < 1e-5 * abs(values[0]), "the layouts must compute the same"
    row = {**asdict(cell), **{name: found["shared"][0][name] for name in ("prompt", "response")}}
    for layout, runs in found.items():
        seconds = [run["seconds"] for run in runs]
        row[f"{layout.lower()}_seconds"] = statistics.median(seconds)
        row[f"{layout.lower()}_range"] = [min(seconds), max(seconds)]
        row[f"{layout.lower()}_mib"] = statistics.median(run["mib"] for run in runs)
    return row


def show(rows: list[dict]) -> None:
    table = Table(
        "G", "prompt : response", "spread", "plain / shared, time", "TRL / shared, time", "shared / plain, memory"
    )
    for row in rows:
        table.add_row(
            str(row["group"]),
            f"{row['prompt']} : {row['response']:.0f}",
            f"{row['spread']:g}",
            f"{row['plain_seconds'] / row['shared_seconds']:.2f}",
            f"{row['trl_seconds'] / row['shared_seconds']:.2f}",
            f"{row['shared_mib'] / row['plain_mib']:.2f}",
        )
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=4, metavar=("FOLDER", "LAYOUT", "CELL", "PASSES"), help="one measurement, here")
    parser.add_argument("--model", choices=["small", "2b-quarter"], default="small", help="2b-quarter needs 24 GB")
    parser.add_argument("--groups", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--ratios", nargs="+", choices=list(RATIOS), default=list(RATIOS))
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 256], help="of the image, in pixels")
    parser.add_argument("--spread", type=float, nargs="+", default=[0.0], help="of the responses' lengths, 0 to 1")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--passes", type=int, default=3, help="per process, of which the fastest counts")
    parser.add_argument("--json", type=Path, default=RESULTS / "prefix.json")
    options = parser.parse_args()
    if options.one:
        folder, layout, cell, passes = options.one
        print(json.dumps(measure_here(Path(folder), layout, Cell(**json.loads(cell)), int(passes))))
        return
    cells = [
        Cell(side, group, ratio, spread)
        for side in options.sides
        for spread in options.spread
        for group in options.groups
        for ratio in options.ratios
    ]
    rows = []
    options.json.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        make_model(Path(name), options.model)
        for cell in track(cells, "measuring", console=Console(stderr=True)):
            found: dict[str, list[dict[str, float]]] = {layout: [] for layout in LAYOUTS}
            for _ in range(options.repeats):
                for layout in LAYOUTS:
                    found[layout].append(measure(Path(name), layout, cell, options.passes))
            rows.append(row_of(cell, found))
            settings = {"model": options.model, "repeats": options.repeats, "passes": options.passes}
            options.json.write_text(json.dumps({**settings, "rows": rows}, indent=1) + "\n")
    show(rows)


if __name__ == "__main__":
    main()
