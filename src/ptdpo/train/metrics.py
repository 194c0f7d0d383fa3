"""What is logged each step: timers, and what tables take from the metrics.jsonl file."""

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

from ptdpo.folders import regular_file

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


def step_seconds(rows: Sequence[dict[str, Any]]) -> list[float]:
    """Return the seconds between consecutive logged steps; the first step, which warms up, is left out."""
    return [b["elapsed"] - a["elapsed"] for a, b in itertools.pairwise(rows) if b["elapsed"] > a["elapsed"]]


def last_steps_mean(rows: Sequence[dict[str, Any]], name: str) -> float:
    """Return the mean of a metric over the last ``LAST_STEPS`` steps that logged it; NaN if none did."""
    values = [row[name] for row in rows if name in row][-LAST_STEPS:]
    return statistics.fmean(values) if values else float("nan")


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Read a metrics.jsonl file; a last line cut off by a kill is left out.

    Raises:
        ValueError: if a line is not what a run writes; names it.
    """
    rows = []
    for number, line in enumerate(regular_file(path, "metrics file").read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError):
            continue
        except RecursionError as error:
            raise ValueError(f"{path}:{number}: not a line of metrics: nested too deeply") from error
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise ValueError(f"{path}:{number}: not a line of metrics: an object with a whole number as its step")
        rows.append(row)
    return rows
