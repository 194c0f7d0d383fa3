"""The paper's averages: unweighted over benchmarks, within each group and over all nine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from ptdpo.evaluate.benchmarks import BENCHMARKS

Number = TypeVar("Number", float, Decimal)

GENERAL = tuple(b.name for b in BENCHMARKS.values() if b.group == "general")
VISION = tuple(b.name for b in BENCHMARKS.values() if b.group == "vision-dependent")
PAPER = (*GENERAL, *VISION)


@dataclass(frozen=True, slots=True)
class Average:
    """One average of the table: its key, its heading and the benchmarks it covers."""

    key: str
    title: str
    members: Sequence[str]


AVERAGES = (
    Average("general", "General", GENERAL),
    Average("vision", "Vision-dependent", VISION),
    Average("overall", "Overall", PAPER),
)


def unweighted(values: Mapping[str, Number], members: Sequence[str]) -> Number | None:
    """Return the mean over the members, each counted once; ``None`` when one of them is missing."""
    present = [values[name] for name in members if name in values]
    if len(present) < len(members):
        return None
    return sum(present[1:], start=present[0]) / len(present)
