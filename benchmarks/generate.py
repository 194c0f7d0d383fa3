"""Sampling a group's rollouts: each distinct prompt prefilled once against every row on its own. Same samples.

One process, the two ways in turn, several rounds; medians with their range. Writes results/generate.json.
Run: make bench, or python benchmarks/generate.py --help
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from transformers import GenerationConfig

from ptdpo.data.prompts import attach_images, conversation
from ptdpo.models import TinyVLMSettings, load_model, load_processor, make_tiny_vlm
from ptdpo.models.shared_prefill import share_prefill

RESULTS = Path(__file__).parent / "results"


def prompts(processor, distinct: int, group: int, side: int) -> dict[str, torch.Tensor]:
    """Return the inputs of ``distinct`` prompts, ``group`` rows each; every prompt has an image of its own."""
    processor.image_processor.size = {"shortest_edge": 16**2, "longest_edge": side**2}
    base = Image.linear_gradient("L").resize((side, side))
    images = [base.rotate(10 * n).convert("RGB") for n in range(distinct)]
    messages = [attach_images(conversation("what is the alpha score of this picture?"), [image]) for image in images]
    texts = [processor.apply_chat_template(m, tokenize=False, add_generation_prompt=True) for m in messages]
    rows = [n for n in range(distinct) for _ in range(group)]
    return dict(
        processor(
            text=[texts[n] for n in rows], images=[[images[n]] for n in rows], padding=True, padding_side="left",
            return_tensors="pt",
        )
    )  # fmt: skip


def timed(model, inputs, config) -> tuple[float, torch.Tensor]:
    torch.manual_seed(1)
    start = time.perf_counter()
    sampled = model.generate(**inputs, generation_config=config)
    return time.perf_counter() - start, sampled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--distinct", type=int, default=4)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--sides", type=int, nargs="+", default=[48, 160, 256], help="image sides in pixels")
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "generate.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console, rows = Console(), []
    with tempfile.TemporaryDirectory() as folder:
        vision = {"vision_hidden": 192, "vision_layers": 4}
        settings = TinyVLMSettings(hidden=options.hidden, layers=6, heads=8, key_value_heads=2, **vision)
        make_tiny_vlm(folder, ["what is the alpha score of this picture? <think>red, blue</think>"] * 50, settings)
        plain, shared, processor = load_model(folder).eval(), load_model(folder).eval(), load_processor(folder)
        share_prefill(shared)
        for side in options.sides:
            inputs = prompts(processor, options.distinct, options.group, side)
            for length in options.lengths:
                ends = plain.generation_config
                config = GenerationConfig(
                    max_new_tokens=length, min_new_tokens=length, do_sample=True, temperature=1.0,
                    eos_token_id=ends.eos_token_id, pad_token_id=ends.pad_token_id,
                )  # fmt: skip
                times: dict[str, list[float]] = {"plain": [], "shared": []}
                for _ in range(options.rounds):
                    samples = {}
                    for name, model in (("plain", plain), ("shared", shared)):
                        seconds, samples[name] = timed(model, inputs, config)
                        times[name].append(seconds)
                    assert torch.equal(samples["plain"], samples["shared"]), "other samples for the same seed"
                ratios = [a / b for a, b in zip(times["plain"], times["shared"], strict=True)]
                row = {"prompt": inputs["input_ids"].size(1), "response": length, "ratio": statistics.median(ratios)}
                rows.append({**row, "range": [min(ratios), max(ratios)]})
                console.print(f"{rows[-1]}")
    table = Table("prompt tokens", "response tokens", "plain / prefilled once", "range")
    for row in rows:
        low, high = row["range"]
        table.add_row(str(row["prompt"]), str(row["response"]), f"{row['ratio']:.2f}", f"{low:.2f} to {high:.2f}")
    console.print(table)
    settings = {key: value for key, value in vars(options).items() if key != "out"}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"settings": settings, "runs": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
