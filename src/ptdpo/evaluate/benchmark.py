"""What a benchmark declares: where its rows come from, how they are read, which are left out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ptdpo.data.prompts import THINKING_INSTRUCTION
from ptdpo.records import Problem

Group = Literal["general", "vision-dependent", "other"]
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Hub:
    """A split of a data set of the hub.

    Attributes:
        repository: its id.
        split: name of the split; in a local copy, what its parquet files are called.
        archive: zip file at the root of the repository that holds the images, if rows hold only their paths.
    """

    repository: str
    split: str
    archive: str | None = None


@dataclass(frozen=True, slots=True)
class Local:
    """Problems that this package makes or ships.

    Attributes:
        origin: where they come from, in words.
        load: given a folder for image files, returns the problems.
    """

    origin: str
    load: Callable[[Path], list[Problem]]


@dataclass(frozen=True, slots=True)
class RowReader:
    """How a question and its answer are found in a row.

    Attributes:
        columns: columns that every row must have; a missing one is refused by name.
        question: the text that the user sees, image markers included.
        answer: the label, empty if the row has none.
    """

    columns: tuple[str, ...]
    question: Callable[[Row], str]
    answer: Callable[[Row], str]


def keep_all(row: Row) -> str | None:
    """Leave no row out."""
    return None


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark, as declared by a module of ``ptdpo.evaluate.benchmarks``.

    Attributes:
        name: as typed on the command line, and the name of its folder.
        title: heading of its column.
        group: which of the paper's averages it enters.
        source: where its rows come from.
        rows: how many rows the public source has.
        reader: how a row of the hub becomes a question; unused for local sources.
        instruction: what follows each question; ``None``: the prompt is in the rows and used as it is.
        leave_out: the reason why a row is not asked, ``None`` to ask it.
        column: place in the paper's table; 0 outside it.
    """

    name: str
    title: str
    group: Group
    source: Hub | Local
    rows: int
    reader: RowReader | None = None
    instruction: str | None = THINKING_INSTRUCTION
    leave_out: Callable[[Row], str | None] = keep_all
    column: int = 0

    @property
    def baked(self) -> bool:
        """Return whether the prompt is in the rows."""
        return self.instruction is None

    @property
    def origin(self) -> str:
        """Return where its rows come from, in words."""
        source = self.source
        return source.origin if isinstance(source, Local) else f"{source.repository}:{source.split}"
