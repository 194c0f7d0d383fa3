"""What keeping records costs: of one run every second step keeps them, so that steps with and without stand in turn.

A tiny VLM on the demo's scenes, in the demo's sizes (6 questions, 8 rollouts, 48 tokens): a random one, all of whose
rollouts are wrong and tutored, the dearest case, or with --world the start model of a world of the demo and its own
answers. Counted is processor time, which other work on the machine disturbs less than a clock: that of the functions
that record, and besides that of a step with records against the mean of its neighbours without, which sampling makes
uneven.

    python benchmarks/records.py --steps 81
    ptdpo data demo-world 0 --out runs/worlds/0
    python benchmarks/records.py --steps 81 --world runs/worlds/0
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import TrainerCallback

from ptdpo.config import DataSettings
from ptdpo.data.dataset import rl_dataset
from ptdpo.data.load import load_data
from ptdpo.data.mosaic import NAMES, hidden_rules, make_scenes
from ptdpo.models import TinyVLMSettings, load_processor, make_tiny_vlm
from ptdpo.statistics import mean_interval
from ptdpo.train import PTDConfig, PTDTrainer
from ptdpo.train.recording import Recorder
from ptdpo.train.trl import record_files
from ptdpo.tutor import head

# The first steps warm up.
WARM = 2


def wrong(completions: list, **_: object) -> list[float]:
    """Return 0, so that every rollout is tutored: the dearest case."""
    return [0.0] * len(completions)


wrong.__name__ = "accuracy_reward"


class Clock(TrainerCallback):
    """Notes the processor time at the end of each step, and that of the functions that record."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.recording = 0.0

    def watch(self, home: Any, name: str) -> None:
        """Count the time of a function of a module or class."""
        function = getattr(home, name)

        def timed(*args: Any, **settings: Any) -> Any:
            before = time.process_time()
            try:
                return function(*args, **settings)
            finally:
                self.recording += (time.process_time() - before) * (len(self.ends) >= WARM)

        setattr(home, name, timed)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note it."""
        self.ends.append(time.process_time())

    def steps(self) -> dict[int, float]:
        """Return the processor seconds of each step but the first ones."""
        pairs = zip(self.ends, self.ends[1:], strict=False)
        return {step: after - before for step, (before, after) in enumerate(pairs, start=2) if step > WARM}


def run(folder: Path, world: Path | None, preset: str, steps: int) -> Clock:
    """Train; the steps of odd number keep records."""
    args = PTDConfig.from_preset(
        preset, output_dir=str(folder / "run"), max_steps=steps, per_device_train_batch_size=48, num_generations=8,
        max_completion_length=48, use_cpu=True, bf16=False, activation_checkpointing=False, save_strategy="no",
        report_to="none", disable_tqdm=True, record_steps=2, tutoring_k=20, learning_rate=0.0,
    )  # fmt: skip
    clock = Clock()
    recording = ((Recorder, "batch"), (Recorder, "tokens"), (head, "leading_tokens"), (record_files, "leading_tokens"))
    for home, name in recording:
        clock.watch(home, name)
    model, rows, reward = random_model(folder) if world is None else of_world(world)
    trainer = PTDTrainer(str(model), reward, args, train_dataset=rows, processing_class=load_processor(str(model)))
    trainer.add_callback(clock)
    trainer.train()
    return clock


def random_model(folder: Path) -> tuple[Path, object, Any]:
    """Return a random model, scenes, and a reward that is always 0."""
    rules = hidden_rules(0)
    scenes = make_scenes(folder / "images", "train", [(name, rules[name]) for name in NAMES * 15], seed=0)
    rows = rl_dataset([s.problem for s in scenes], {s.problem.id: s.hint for s in scenes}, instruction="")
    texts = [s.problem.problem for s in scenes] + [f"{s.hint.look} {s.hint.reason}" for s in scenes]
    make_tiny_vlm(folder / "model", texts, TinyVLMSettings(seed=0))
    return folder / "model", rows, wrong


def of_world(world: Path) -> tuple[Path, object, Any]:
    """Return the start model of a world, its training data, and the usual reward."""
    data = load_data(DataSettings(path=str(world / "data/train.jsonl"), hints=str(world / "data/hints.jsonl")))
    return world / "start", rl_dataset(data.problems, data.hints, instruction=""), None


def costs(seconds: dict[int, float]) -> list[float]:
    """Return what each step with records takes beyond its two neighbours without, as a share of theirs."""
    found = []
    for step, taken in seconds.items():
        around = [seconds[near] for near in (step - 1, step + 1) if near in seconds]
        if step % 2 and len(around) == 2:
            found.append(taken / statistics.fmean(around) - 1)
    return found


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=81)
    parser.add_argument("--preset", default="ptd-grpo")
    parser.add_argument("--world", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clock = run(folder, given.world, given.preset, given.steps)
        size = sum(file.stat().st_size for file in (folder / "run" / "records").glob("*.jsonl"))
    seconds = clock.steps()
    recorded = [taken for step, taken in seconds.items() if step % 2]
    share = mean_interval(costs(seconds))
    Console().print(
        f"{given.preset}: {1e3 * clock.recording / len(recorded):.1f} ms of processor time in functions that record, "
        f"{100 * clock.recording / sum(recorded):.2f} % of a step; against its neighbours a step with records takes "
        f"{100 * share.mean:+.2f} % [{100 * share.low:+.2f}, {100 * share.high:+.2f}] more, in {len(costs(seconds))} "
        f"triples (medians {statistics.median(recorded):.3f} s with, "
        f"{statistics.median(taken for step, taken in seconds.items() if step % 2 == 0):.3f} s without); "
        f"{size / (given.steps // 2 + 1) / 1e3:.0f} kB a step",
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
