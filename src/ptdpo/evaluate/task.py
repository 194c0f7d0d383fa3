"""What an engine is asked to do, and the random streams that belong to it."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ptdpo.evaluate.settings import SamplingSettings
from ptdpo.records import Problem


@dataclass(frozen=True, slots=True)
class Task:
    """The questions of one benchmark.

    Attributes:
        name: of the benchmark; names the random streams.
        problems: the questions, in a fixed order.
        instruction: follows each question; ``None``: the prompt is in the rows.
        sampling: how to sample.
        done: (id, sample) of the answers that are there.
        folder: where an engine may keep files of its own.
    """

    name: str
    problems: Sequence[Problem]
    instruction: str | None
    sampling: SamplingSettings
    done: Collection[tuple[str, int]]
    folder: Path


def stream_seed(seed: int, stream: str, sample: int, start: int) -> int:
    """Return the seed of one batch; streams of different batches, samples, benchmarks and seeds never meet."""
    name = f"{seed} {stream} {sample} {start}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
