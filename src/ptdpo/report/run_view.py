"""What the report of runs shows, and how much of it: settings, curves, tables, a sample of rollouts within a budget."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ptdpo.report.curves import Rows
from ptdpo.runlog import SETTINGS_FILE, STARTED, RunRecords
from ptdpo.statistics import mean_interval

# Curves of longer runs are drawn from so many of their steps.
MOST_STEPS = 600
LAST = 20

# Key in metrics.jsonl, title; the order is that of the page.
CURVES: tuple[tuple[str, str], ...] = (
    ("accuracy", "Accuracy of rollouts"),
    ("divergence", "Divergence to the teacher, nats"),
    ("entropy", "Entropy, nats"),
    ("kl", "KL to the reference"),
    ("completions/mean_length", "Response length, tokens"),
    ("completions/clipped_ratio", "Share of truncated responses"),
    ("grad_norm", "Gradient norm"),
    ("reward", "Reward"),
    ("topk_overlap", "Overlap of the Top-K sets"),
    ("tail_mass/teacher", "Teacher's mass outside the support"),
    ("tutored/rollouts", "Tutored rollouts"),
    ("accuracy/tutored_groups", "Accuracy of tutored groups"),
    ("reconsideration", "Share of reconsidering words"),
    ("disputed", "Share of rollouts that only the other grading calls right"),
)
OVER_TUTORED = ("divergence", "topk_overlap", "tail_mass/student", "tail_mass/teacher", "accuracy/tutored_groups")
GROUPS = ("groups/all_fail", "groups/informative", "groups/all_pass")
SECONDS = ("generate", "reward", "teacher", "score", "update", "records")
# In the table: key, title, digits, whether it is a share, whose interval ends at 0 and 1.
TABLE = (
    ("accuracy", "accuracy", 3, True),
    ("groups/all_fail", "all-fail groups", 3, True),
    ("groups/informative", "informative groups", 3, True),
    ("divergence", "divergence", 4, False),
    ("entropy", "entropy", 3, False),
    ("kl", "KL", 4, False),
    ("completions/mean_length", "length", 1, False),
)


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as the report reads it.

    Attributes:
        name: unique among the runs of a page.
        metrics: rows of metrics.jsonl, numbers only.
        records: what it kept.
        settings: by name, as text.
        finished: the run has ended.
    """

    name: str
    metrics: Rows
    records: RunRecords
    settings: Mapping[str, str] = field(default_factory=dict)
    finished: bool = False

    @property
    def steps(self) -> int:
        """Return the newest step."""
        return max((int(row["step"]) for row in self.metrics), default=0)

    def values(self, key: str) -> list[float]:
        """Return the finite values of a metric, in order."""
        return [float(row[key]) for row in self.metrics if key in row and math.isfinite(row[key])]


def numbers_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what of a row of metrics are numbers, NaN and infinity among them; another version may log more.

    A mean over the tutored tokens of a step that tutored none is logged as 0 and left out.
    """
    idle = OVER_TUTORED if row.get("tutored/tokens") == 0 else ()
    # An integer may be larger than any float.
    return {
        key: value
        for key, value in row.items()
        if key not in idle and (isinstance(value, float) or (isinstance(value, int) and abs(value) < 10**300))
    }


def settings_of_run(folder: Path) -> dict[str, str]:
    """Return what a run says that it was trained with, flat, as text; nothing where it does not say.

    A run of a recipe says it in ``started.json``, one of ``PTDTrainer`` alone in its records.
    """
    for path in (folder / STARTED, folder / SETTINGS_FILE):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(content, dict):
            return dict(_flat(content))
    return {}


def curves_of(run: RunView) -> dict[str, list[float | None]]:
    """Return the columns that the page draws, ``step`` among them; of long runs every n-th step."""
    rows = list(run.metrics)
    every = max(1, -(-len(rows) // MOST_STEPS))
    rows = rows[::every] if every == 1 or not rows else [*rows[:-1:every], rows[-1]]
    keys = ["step", *(key for key, _ in CURVES), *GROUPS, *(f"seconds/{part}" for part in SECONDS)]
    return {key: [_number(row.get(key)) for row in rows] for key in keys if any(key in row for row in rows)}


def table_of(run: RunView) -> list[str]:
    """Return the cells of a run: mean of its last steps with a 95 % t-interval over them."""
    cells = [run.name, str(run.steps)]
    for key, _, digits, share in TABLE:
        values = run.values(key)[-LAST:]
        if len(values) < 2:
            cells.append("–" if not values else f"{values[0]:.{digits}f}")
            continue
        found = mean_interval(values)
        low, high = (max(found.low, 0.0), min(found.high, 1.0)) if share else (found.low, found.high)
        cells.append(f"{found.mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]")
    return cells


def throughput_of(run: RunView) -> dict[str, float]:
    """Return mean seconds of each part of a step, and tokens per second where the run logged them."""
    parts = {part: run.values(f"seconds/{part}") for part in SECONDS}
    found = {part: sum(values) / len(values) for part, values in parts.items() if values}
    elapsed = run.values("elapsed")
    lengths, total = run.values("completions/mean_length"), sum(found.values())
    if len(elapsed) > 1 and elapsed[-1] > elapsed[0]:
        found["steps per hour"] = 3600 * (len(elapsed) - 1) / (elapsed[-1] - elapsed[0])
    tokens = run.values("num_tokens")
    if len(tokens) > 1 and lengths and total:
        found["tokens per second"] = (tokens[-1] - tokens[0]) / (len(tokens) - 1) / total
    return {name: round(value, 4) for name, value in found.items()}


def _flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            found += _flat(value, f"{prefix}{key}.")
        elif value not in (None, "", [], {}):
            found.append((f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)))
    return found


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")


def spread(count: int) -> Sequence[int]:
    """Return 0 ... count - 1 in an order of which any beginning is spread over the whole; the last comes first."""
    bits = max(1, (count - 1).bit_length()) if count else 1
    order = (int(f"{number:0{bits}b}"[::-1], 2) for number in range(2**bits))
    return [count - 1 - place for place in order if place < count]
