"""What is logged each step: sums over one optimiser step, timers, and the metrics.jsonl file."""

import itertools
import json
import re
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ptdpo.folders import write_text
from ptdpo.train.examples import EXAMPLES_FILE
from ptdpo.tutor.head import Beside

METRICS_FILE = "metrics.jsonl"
# The tail of training over which entropy, KL and group shares are averaged in tables.
LAST_STEPS = 20

# Words of verification and backtracking; their loss is the known risk of privileged self-distillation.
_RECONSIDERATION = re.compile(
    r"\b(?:wait|however|actually|alternatively|hmm|recheck|re-check|double-check|verify|mistake)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w+")


def reconsideration_share(texts: Sequence[str]) -> float:
    """Return the share of words that reconsider ("wait", "however", "verify", ...) in the texts."""
    words = sum(len(_WORD.findall(text)) for text in texts)
    return sum(len(_RECONSIDERATION.findall(text)) for text in texts) / max(words, 1)


@dataclass
class TutoringSums:
    """Sums over the tutored tokens that this process trained on in the current optimiser step."""

    tokens: int = 0
    divergence: float = 0.0
    overlap: float = 0.0
    student_tail: float = 0.0
    teacher_tail: float = 0.0

    def add(self, scored: Beside) -> None:
        """Add one micro-batch."""
        if scored.divergence is None or scored.divergence.numel() == 0:
            return
        self.tokens += scored.divergence.numel()
        self.divergence += scored.divergence.detach().sum().item()
        self.overlap += _total(scored.overlap)
        self.student_tail += _total(scored.student_tail)
        self.teacher_tail += _total(scored.teacher_tail)

    def as_tensor(self, device: torch.device) -> torch.Tensor:
        """Return the sums in field order, for one reduction over all processes."""
        values = [self.tokens, self.divergence, self.overlap, self.student_tail, self.teacher_tail]
        return torch.tensor(values, dtype=torch.float32, device=device)


def _total(values: torch.Tensor | None) -> float:
    return 0.0 if values is None else values.sum().item()


@dataclass
class PartsClock:
    """Seconds spent in named parts of the work since the last ``take``."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add the time of the enclosed block to ``part``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """Return the seconds by part and start anew."""
        taken, self.seconds = self.seconds, {}
        return taken


class MetricsFile(TrainerCallback):
    """Writes one line of ``metrics.jsonl`` per logged step; after a resume no step stands in a file twice.

    ``elapsed`` is the time in seconds since this process began to train.
    """

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Drop lines of steps that are about to be repeated."""
        self._began = time.perf_counter()
        if not state.is_world_process_zero:
            return
        folder = Path(str(args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        for name in (METRICS_FILE, EXAMPLES_FILE):
            path = folder / name
            kept = [row for row in read_metrics(path) if row["step"] <= state.global_step] if path.exists() else []
            write_text(path, "".join(json.dumps(row) + "\n" for row in kept))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Append the numbers of one step."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        numbers = {k: float(v) for k, v in logs.items() if _is_number(v)}
        row = {"step": state.global_step, **numbers, "elapsed": time.perf_counter() - self._began}
        with (Path(str(args.output_dir)) / METRICS_FILE).open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def step_seconds(rows: Sequence[dict[str, Any]]) -> list[float]:
    """Return the seconds between consecutive logged steps; the first step, which warms up, is left out."""
    return [b["elapsed"] - a["elapsed"] for a, b in itertools.pairwise(rows) if b["elapsed"] > a["elapsed"]]


def last_steps_mean(rows: Sequence[dict[str, Any]], name: str) -> float:
    """Return the mean of a metric over the last ``LAST_STEPS`` steps that logged it; NaN if none did."""
    values = [row[name] for row in rows if name in row][-LAST_STEPS:]
    return statistics.fmean(values) if values else float("nan")


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Read a metrics.jsonl file; a last line cut off by a kill is left out."""
    rows = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
