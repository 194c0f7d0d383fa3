"""Whole training steps: TRL GRPO, ptdpo GRPO and PTD-GRPO, same model, same replayed rollouts, half of them failed.

One process, the trainers in turn, several rounds; ratios of median step times. Generation is replayed, so that a
step is reward, routing, teacher, scoring and update. Writes results/step.json.
Run: make bench, or python benchmarks/step.py --help
"""

import argparse
import json
import logging
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from ptdpo.data.dataset import rl_dataset
from ptdpo.data.prompts import attach_images
from ptdpo.models import TinyVLMSettings, load_model, load_processor, make_tiny_vlm
from ptdpo.records import Hint, Problem
from ptdpo.train import PTDConfig, PTDTrainer

RESULTS = Path(__file__).parent / "results"
GROUP, WARM_UP = 8, 2
# preset and settings of each arm; None: TRL's own trainer.
ARMS = {
    "TRL GRPO": None,
    "ptdpo GRPO": ("grpo", {}),
    "ptdpo GRPO, shared prefix": ("grpo", {"share_prefix": True}),
    "PTD-GRPO": ("ptd-grpo", {}),
    "PTD-GRPO, plain layout": ("ptd-grpo", {"share_prefix": False}),
    "PTD-GRPO, plain layout, dense head": ("ptd-grpo", {"share_prefix": False, "head": "dense"}),
}


class StepTimes(TrainerCallback):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *args, **kwargs) -> None:
        self.start = time.perf_counter()

    def on_step_end(self, *args, **kwargs) -> None:
        self.seconds.append(time.perf_counter() - self.start)


class Replay:
    """Stands in for generation: random responses of the given length, the same at every step and in every trainer."""

    def __init__(self, trainer, length: int) -> None:
        self.generate, self.length, self.kept = trainer._generate, length, None

    def __call__(self, prompts):
        if self.kept is None:
            prompt_ids, completion_ids, *rest = self.generate(prompts)
            generator = torch.Generator().manual_seed(0)
            responses = torch.randint(20, 200, (len(completion_ids), self.length), generator=generator).tolist()
            self.kept = (prompt_ids, responses, *rest)
        prompt_ids, completion_ids, *rest = self.kept
        return ([list(ids) for ids in prompt_ids], [list(ids) for ids in completion_ids], *rest)


def half_right(completions, **_):
    return [float(n % 2) for n in range(len(completions))]


half_right.__name__ = "accuracy_reward"


def make_model(folder: Path, vocabulary: int, hidden: int) -> str:
    settings = TinyVLMSettings(hidden=hidden, layers=3, heads=4, key_value_heads=2)
    path = make_tiny_vlm(folder / "tiny", ["what is red, blue, green or yellow in the top row?"] * 50, settings)
    model = load_model(str(path))
    model.resize_token_embeddings(vocabulary)
    model.save_pretrained(path)
    return str(path)


def problems(folder: Path, prompts: int, side: int) -> list[Problem]:
    path = folder / "image.png"
    Image.new("RGB", (side, side), "red").save(path)
    text = "what is red in the top row? " * 4
    return [Problem(f"p{n}", (str(path),), f"{text}{n}", "3", "bench") for n in range(prompts)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--length", type=int, default=64, help="response tokens")
    parser.add_argument("--ratios", nargs="+", type=float, help="response over prompt tokens, in place of --length")
    parser.add_argument("--side", type=int, default=96, help="image side in pixels")
    parser.add_argument("--vocabulary", type=int, default=8_000)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5, help="timed steps per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), metavar="ARM")
    parser.add_argument("--out", type=Path, default=RESULTS / "step.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = make_model(folder, options.vocabulary, options.hidden)
        data = problems(folder, options.prompts, options.side)
        hints = {p.id: Hint(look="the top row.", reason="count what is red.") for p in data}
        rows, processor = rl_dataset(data, hints, instruction=""), load_processor(path)
        prompt = prompt_tokens(rows[0], processor)
        lengths = [round(prompt * ratio) for ratio in options.ratios] if options.ratios else [options.length]
        for length in lengths:
            seconds = measure(folder, path, rows, processor, length, options)
            found.append(report(seconds, {"prompt_tokens": prompt, "response_tokens": length}))
    settings = {key: value for key, value in vars(options).items() if key != "out"}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"settings": settings, "runs": found}, indent=1) + "\n")


def prompt_tokens(row, processor) -> int:
    text = processor.apply_chat_template(
        attach_images(row["prompt"], row["images"]), tokenize=False, add_generation_prompt=True
    )
    return processor(text=[text], images=[row["images"]], return_tensors="pt")["input_ids"].size(1)


def measure(folder: Path, path: str, rows, processor, length: int, options) -> dict[str, list[float]]:
    """Return the seconds of every timed step of every arm."""
    seconds: dict[str, list[float]] = {arm: [] for arm in options.arms}
    shared = {
        "output_dir": str(folder / "run"), "max_steps": WARM_UP + options.steps, "num_generations": GROUP,
        "per_device_train_batch_size": GROUP * options.prompts, "max_completion_length": length,
        "learning_rate": 1e-6, "use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no",
        "disable_tqdm": True, "activation_checkpointing": False, "shuffle_dataset": False, "logging_steps": 1000,
    }  # fmt: skip
    for _ in range(options.rounds):
        for arm in seconds:
            if ARMS[arm] is None:
                args = GRPOConfig(beta=0.01, use_bias_correction_kl=False, loss_type="grpo", **shared)
                trainer = GRPOTrainer(path, half_right, args, train_dataset=rows, processing_class=processor)
            else:
                preset, settings = ARMS[arm]
                args = PTDConfig.from_preset(preset, record_steps=0, **settings, **shared)
                trainer = PTDTrainer(path, half_right, args, train_dataset=rows, processing_class=processor)
            times = StepTimes()
            trainer.add_callback(times)
            trainer._generate = Replay(trainer, length)
            trainer.train()
            seconds[arm] += times.seconds[WARM_UP:]
            if arm.startswith("PTD"):
                expected = GROUP * options.prompts // 2 * (WARM_UP + options.steps)
                assert trainer.teacher.rows_read == expected, "teacher rows must be the failed rows exactly"
    return seconds


def report(seconds: dict[str, list[float]], sizes: dict[str, int]) -> dict[str, object]:
    """Print and return medians and ratios at one size."""
    median = {arm: statistics.median(values) for arm, values in seconds.items()}
    pairs = [
        ("ptdpo GRPO", "TRL GRPO"),
        ("PTD-GRPO", "ptdpo GRPO, shared prefix"),
        ("PTD-GRPO, plain layout", "ptdpo GRPO"),
        ("PTD-GRPO", "ptdpo GRPO"),
        ("PTD-GRPO", "PTD-GRPO, plain layout"),
        ("PTD-GRPO, plain layout", "PTD-GRPO, plain layout, dense head"),
    ]
    ratios = {f"{a} / {b}": median[a] / median[b] for a, b in pairs if {a, b} <= median.keys()}
    table = Table(f"{sizes}", "median seconds", "least", "most")
    for arm, values in seconds.items():
        table.add_row(arm, f"{median[arm]:.3f}", f"{min(values):.3f}", f"{max(values):.3f}")
    console = Console()
    console.print(table)
    for name, ratio in ratios.items():
        console.print(f"{name}: {ratio:.2f}")
    return {**sizes, "median_seconds": median, "ratios": ratios}


if __name__ == "__main__":
    main()
