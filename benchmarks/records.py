"""What keeping records costs: the same steps with records and without, in turn.

A random tiny VLM on the demo's scenes, in the demo's sizes (6 questions, 8 rollouts, 48 tokens). Other work on the
machine disturbs times: pairs in turn, and besides the share of a step that the run's own clock (seconds/records) gives.

    python benchmarks/records.py --pairs 3 --steps 12
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from rich.console import Console

from ptdpo.data.dataset import rl_dataset
from ptdpo.data.mosaic import NAMES, hidden_rules, make_scenes
from ptdpo.models import TinyVLMSettings, load_processor, make_tiny_vlm
from ptdpo.train import PTDConfig, PTDTrainer
from ptdpo.train.metrics import read_metrics, step_seconds

PARTS = ("generate", "reward", "teacher", "score", "update", "records")


def wrong(completions: list, **_: object) -> list[float]:
    """Return 0, so that every rollout is tutored: the dearest case."""
    return [0.0] * len(completions)


wrong.__name__ = "accuracy_reward"


def run(folder: Path, model: Path, rows: object, preset: str, steps: int, record_steps: int) -> tuple[float, float]:
    """Return the median seconds of a step, and the share of them that the clock gives to records."""
    args = PTDConfig.from_preset(
        preset, output_dir=str(folder), max_steps=steps, per_device_train_batch_size=48, num_generations=8,
        max_completion_length=48, use_cpu=True, bf16=False, activation_checkpointing=False, save_strategy="no",
        report_to="none", disable_tqdm=True, record_steps=record_steps, tutoring_k=20,
    )  # fmt: skip
    processor = load_processor(str(model))
    PTDTrainer(str(model), wrong, args, train_dataset=rows, processing_class=processor).train()
    metrics = read_metrics(folder / "metrics.jsonl")
    kept = [row["seconds/records"] / sum(row[f"seconds/{part}"] for part in PARTS) for row in metrics[1:]]
    return statistics.median(step_seconds(metrics)), statistics.median(kept)


def main() -> None:
    """Print one line per pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--preset", default="ptd-grpo")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rules = hidden_rules(0)
        scenes = make_scenes(folder / "images", "train", [(name, rules[name]) for name in NAMES * 15], seed=0)
        rows = rl_dataset([s.problem for s in scenes], {s.problem.id: s.hint for s in scenes}, instruction="")
        texts = [s.problem.problem for s in scenes] + [f"{s.hint.look} {s.hint.reason}" for s in scenes]
        make_tiny_vlm(folder / "model", texts, TinyVLMSettings(seed=0))
        for pair in range(given.pairs):
            seconds = {}
            for record_steps in (0, 1):
                out = folder / f"{pair}-{record_steps}"
                seconds[record_steps], share = run(out, folder / "model", rows, given.preset, given.steps, record_steps)
            size = sum(file.stat().st_size for file in (out / "records").glob("*.jsonl")) / given.steps / 1e3
            Console().print(
                f"pair {pair + 1}: {seconds[0]:.3f} s without, {seconds[1]:.3f} s with "
                f"({100 * (seconds[1] / seconds[0] - 1):+.1f} %); the clock: {100 * share:.2f} %; {size:.0f} kB a step"
            )


if __name__ == "__main__":
    main()
