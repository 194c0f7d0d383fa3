"""Curves of one or more runs as inline SVG."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#8a5fb5", "#b7791f", "#555555")
# For more runs than colours.
DASHES = ("-", "--", ":")
GROUP_COLOURS = {"groups/all_fail": "#d1495b", "groups/informative": "#edae49", "groups/all_pass": "#2e8b57"}

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Curve:
    """One metric to draw: its key in metrics.jsonl and its title."""

    key: str
    title: str
    smooth: int = 5


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Return the trailing mean over ``window`` values; the first ones over as many as there are."""
    return [sum(values[max(0, i + 1 - window) : i + 1]) / min(window, i + 1) for i in range(len(values))]


def line_chart(runs: Mapping[str, Rows], curve: Curve) -> str:
    """Return an SVG with one line per run that logged the metric."""
    figure = Figure(figsize=(5.2, 2.9), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, rows) in enumerate(runs.items()):
        colour, dashes = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
        points = [(row["step"], row[curve.key]) for row in rows if curve.key in row]
        if points:
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, color=colour, alpha=0.2, linewidth=1)
            axes.plot(steps, smoothed(values, curve.smooth), color=colour, linestyle=dashes, label=name, linewidth=1.8)
    _finish(axes, curve.title)
    return svg(figure)


def mean_over_runs(runs: Sequence[Rows], keys: Sequence[str]) -> list[dict[str, float]]:
    """Return one row per step with the mean of each metric over the runs that logged it at that step."""
    values: dict[int, dict[str, list[float]]] = {}
    for rows in runs:
        for row in rows:
            for key in keys:
                if key in row:
                    values.setdefault(int(row["step"]), {}).setdefault(key, []).append(row[key])
    return [
        {"step": step, **{key: sum(found) / len(found) for key, found in metrics.items()}}
        for step, metrics in sorted(values.items())
    ]


def group_chart(name: str, rows: Rows) -> str:
    """Return an SVG of the composition of groups over training (Figure 2)."""
    figure = Figure(figsize=(5.2, 2.9), layout="constrained")
    axes = figure.add_subplot()
    rows = [row for row in rows if "groups/all_fail" in row]
    steps = [row["step"] for row in rows]
    shares = [smoothed([row[key] for row in rows], 5) for key in GROUP_COLOURS]
    labels = [key.removeprefix("groups/").replace("_", "-") for key in GROUP_COLOURS]
    axes.stackplot(steps, shares, labels=labels, colors=list(GROUP_COLOURS.values()), alpha=0.85)
    axes.set_ylim(0, 1)
    _finish(axes, f"{name}: groups")
    return svg(figure)


def _finish(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel("step", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        many = len(axes.get_legend_handles_labels()[0]) > len(COLOURS)
        beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if many else {}
        axes.legend(fontsize=7 if many else 8, frameon=False, **beside)


def svg(figure: Figure) -> str:
    """Return a figure as an ``<svg>`` element, without the XML prologue."""
    out = io.StringIO()
    FigureCanvasSVG(figure).print_svg(out)
    return out.getvalue()[out.getvalue().index("<svg") :]
