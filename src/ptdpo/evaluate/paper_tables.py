"""Tables 1, 2 and 4 of the paper as data, and which of their printed cells follow from the others."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ptdpo.evaluate.averages import AVERAGES, GENERAL, PAPER, VISION, Average, unweighted
from ptdpo.evaluate.benchmarks import BENCHMARKS
from ptdpo.evaluate.table import PrintedTable, paper_columns

_FILE = Path(__file__).with_name("paper_tables.yaml")
_CENT = Decimal("0.01")
_HALF = _CENT / 2


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One row as printed, in percent.

    Attributes:
        table: its number.
        model: the model of its block.
        name: of the method.
        columns: the nine benchmarks, by name.
        averages: the printed averages, by key.
        changes: the printed relative changes against ``base`` in percent, by key of the average.
        base: the row of the same block that changes refer to, "" if none are printed.
    """

    table: int
    model: str
    name: str
    columns: Mapping[str, Decimal]
    averages: Mapping[str, Decimal]
    changes: Mapping[str, Decimal]
    base: str

    @property
    def place(self) -> str:
        """Return where the row stands."""
        return f"table {self.table}, {self.model}, {self.name}"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A printed cell that does not follow from the printed columns.

    Attributes:
        row: where it stands.
        cell: which average or change.
        printed: as printed.
        computed: from the printed columns, not rounded.
        within_rounding: whether columns that round to the printed ones could give the printed cell.
    """

    row: PaperRow
    cell: str
    printed: Decimal
    computed: Decimal
    within_rounding: bool

    def __str__(self) -> str:
        """Say it in one line."""
        why = "within the rounding of the columns" if self.within_rounding else "beyond the rounding of the columns"
        return f"{self.row.place}: {self.cell} printed {self.printed}, from its columns {self.computed:.4f} ({why})"


@cache
def paper_rows() -> tuple[PaperRow, ...]:
    """Return every row of the three tables."""
    return tuple(
        _row(table["table"], block["model"], row)
        for table in _content()
        for block in table["blocks"]
        for row in block["rows"]
    )


@cache
def _content() -> list[dict[str, Any]]:
    return yaml.safe_load(_FILE.read_text(encoding="utf-8"))


def _row(table: int, model: str, row: Mapping[str, str]) -> PaperRow:
    general, general_mean, vision, vision_mean, overall_mean = (part.split() for part in row["cells"].split("|"))
    means = dict(zip((average.key for average in AVERAGES), (general_mean, vision_mean, overall_mean), strict=True))
    return PaperRow(
        table,
        model,
        row["name"],
        {name: Decimal(cell) for name, cell in zip((*GENERAL, *VISION), (*general, *vision), strict=True)},
        {key: Decimal(cells[0]) for key, cells in means.items()},
        {key: Decimal(cells[1]) for key, cells in means.items() if len(cells) > 1},
        row.get("base", ""),
    )


def average_mismatches() -> list[Mismatch]:
    """Return the printed averages that the printed columns do not give when rounded to two digits."""
    found = []
    for row in paper_rows():
        for average in AVERAGES:
            computed = _mean(row, average.members)
            printed = row.averages[average.key]
            if printed not in _rounded(computed):
                # Every column may be off by half a cent either way, and so may their mean.
                within = abs(printed - computed) <= 2 * _HALF
                found.append(Mismatch(row, f"AVG {average.title}", printed, computed, within))
    return found


def change_mismatches() -> list[Mismatch]:
    """Return the printed relative changes that follow neither from the printed columns nor from the printed averages.

    Each was computed from one of the two, or from numbers that were not printed: the paper does not say.
    """
    found = []
    for row, base, average in _changes():
        computed, printed = _from_columns(row, base, average), row.changes[average.key]
        if printed not in _rounded(computed) | _rounded(_from_averages(row, base, average)):
            before, after = _mean(base, average.members), _mean(row, average.members)
            ends = sorted((_change(before + _HALF, after - _HALF), _change(before - _HALF, after + _HALF)))
            within = ends[0] - _HALF <= printed <= ends[1] + _HALF
            found.append(Mismatch(row, f"change of AVG {average.title}", printed, computed, within))
    return found


def change_sources() -> tuple[int, int, int]:
    """Return how many changes are printed, how many the columns give, how many the printed averages give."""
    columns = averages = 0
    changes = list(_changes())
    for row, base, average in changes:
        columns += row.changes[average.key] in _rounded(_from_columns(row, base, average))
        averages += row.changes[average.key] in _rounded(_from_averages(row, base, average))
    return len(changes), columns, averages


def _from_columns(row: PaperRow, base: PaperRow, average: Average) -> Decimal:
    return _change(_mean(base, average.members), _mean(row, average.members))


def _from_averages(row: PaperRow, base: PaperRow, average: Average) -> Decimal:
    return _change(base.averages[average.key], row.averages[average.key])


def impossible_counts(samples: int) -> list[tuple[PaperRow, str]]:
    """Return the cells that are no whole number of right responses when every question has so many samples.

    The paper does not say how many samples a question gets. A cell is a whole number of right responses over rows
    times samples, which for small benchmarks rules most two-digit percentages out.
    """
    return [
        (row, name)
        for row in paper_rows()
        for name, cell in row.columns.items()
        if not _countable(cell, BENCHMARKS[name].rows * samples)
    ]


def _countable(cell: Decimal, responses: int) -> bool:
    low, high = ((cell + half) * responses / 100 for half in (-_HALF, _HALF))
    return math.ceil(low) <= math.floor(high)


def _changes() -> Iterator[tuple[PaperRow, PaperRow, Average]]:
    """Yield each printed change as its row, the row it refers to, and its average."""
    by_place = {(row.table, row.model, row.name): row for row in paper_rows()}
    for row in paper_rows():
        for average in AVERAGES:
            if average.key in row.changes:
                yield row, by_place[row.table, row.model, row.base], average


def _mean(row: PaperRow, members: Sequence[str]) -> Decimal:
    mean = unweighted(row.columns, members)
    assert mean is not None
    return mean


def _change(before: Decimal, after: Decimal) -> Decimal:
    return 100 * (after / before - 1)


def _rounded(value: Decimal) -> set[Decimal]:
    """Return the value with two digits; where it ends on a five, either neighbour counts as rounded."""
    return {value.quantize(_CENT, ROUND_HALF_UP), value.quantize(_CENT, ROUND_HALF_EVEN)}


def cells() -> int:
    """Return how many cells the three tables hold: columns, averages, changes."""
    return sum(len(row.columns) + len(row.averages) + len(row.changes) for row in paper_rows())


def printed_tables() -> list[tuple[str, PrintedTable]]:
    """Return the three tables with computed averages; a printed average that differs stands behind in brackets."""
    columns = paper_columns()
    titles = {table["table"]: table["title"] for table in _content()}
    shown = []
    for number, title in titles.items():
        lines = [[row.model, row.name, *_line(row, columns)] for row in paper_rows() if row.table == number]
        shown.append((f"Table {number}: {title}", PrintedTable(["model", "method", *(t for _, t in columns)], lines)))
    return shown


def _line(row: PaperRow, columns: Sequence[tuple[str, str]]) -> list[str]:
    cells = {name: str(cell) for name, cell in row.columns.items()}
    for average in AVERAGES:
        computed, printed = _mean(row, average.members), row.averages[average.key]
        given = str(computed.quantize(_CENT, ROUND_HALF_UP))
        cells[average.key] = given if printed in _rounded(computed) else f"{given} (printed {printed})"
    return [cells[key] for key, _ in columns]


def report() -> list[str]:
    """Return what was checked and what does not add up, a line each."""
    averages, changes, odd = average_mismatches(), change_mismatches(), impossible_counts(8)
    printed, from_columns, from_averages = change_sources()
    rows = paper_rows()
    return [
        f"{len(rows)} rows of tables 1, 2 and 4, {cells()} cells",
        f"{len(averages)} of {len(rows) * len(AVERAGES)} printed averages do not follow from the printed columns",
        *(f"- {mismatch}" for mismatch in averages),
        f"{printed} relative changes are printed: {from_columns} follow from the columns, {from_averages} from the "
        f"printed averages, {len(changes)} from neither",
        *(f"- {mismatch}" for mismatch in changes),
        f"{len(odd)} of {len(rows) * len(PAPER)} benchmark cells are no whole number of right responses at 8 samples "
        f"per question ({len(impossible_counts(4))} at 4, {len(impossible_counts(1))} at 1)",
        *(f"- {row.place}: {BENCHMARKS[name].title} {row.columns[name]}" for row, name in odd),
    ]
