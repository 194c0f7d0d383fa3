"""What an analysis leaves: JSON, a table, a plot as SVG and PNG, and one sentence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ptdpo.folders import replacing, write_json, write_text
from ptdpo.report.curves import svg
from ptdpo.report.run_view import RunView

Cell = str | int | float | None


@dataclass(frozen=True, slots=True)
class Analysis:
    """One analysis.

    Attributes:
        name: of its files.
        sentence: what is seen.
        columns: of the table.
        rows: numbers as they are; ``None``: there is none.
        figure: the plot.
    """

    name: str
    sentence: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    figure: Figure

    def cells(self) -> list[list[str]]:
        """Return the table as text."""
        return [[_cell(value) for value in row] for row in self.rows]

    def write(self, folder: Path) -> list[Path]:
        """Write ``NAME.json``, ``.md``, ``.svg`` and ``.png`` and return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{self.name}.{kind}" for kind in ("json", "md", "svg", "png")]
        rows = [dict(zip(self.columns, map(_finite, row), strict=True)) for row in self.rows]
        write_json(paths[0], {"analysis": self.name, "sentence": self.sentence, "rows": rows}, indent=1)
        lines = [self.columns, ["---"] * len(self.columns), *self.cells()]
        table = "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
        write_text(paths[1], f"{self.sentence}\n\n{table}")
        write_text(paths[2], svg(self.figure))
        with replacing(paths[3]) as partial:
            FigureCanvasAgg(self.figure).print_png(str(partial))
        return paths


def plot() -> tuple[Figure, Axes]:
    """Return an empty figure and its axes."""
    figure, (axes,) = plots(1)
    return figure, axes


def plots(count: int) -> tuple[Figure, list[Axes]]:
    """Return an empty figure and its axes, side by side."""
    figure = Figure(figsize=(6.4 if count == 1 else 4.8 * count, 3.6), layout="constrained")
    found = [figure.add_subplot(1, count, place + 1) for place in range(count)]
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, found


def mean(values: Sequence[float]) -> float | None:
    """Return the mean; ``None`` of nothing."""
    return sum(values) / len(values) if values else None


def plotted(values: Sequence[Cell]) -> Sequence[float]:
    """Return what a curve shows: a gap where there is no number."""
    return [math.nan if value is None else float(value) for value in values]


def said(value: Cell, digits: int = 3) -> str:
    """Return a number for a sentence."""
    return "unknown" if value is None else f"{float(value):.{digits}f}"


def unread(run: RunView) -> str:
    """Return the end of a message that says what is missing from the records of a run: lines that could not be read."""
    return f" ({run.records.broken} lines of its records could not be read)" if run.records.broken else ""


def _finite(value: Cell) -> Cell:
    # A training may end in NaN, which JSON does not have.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Cell) -> str:
    value = _finite(value)
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
