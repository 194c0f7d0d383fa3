"""The picture of a study: every arm minus the baseline, with its interval."""

from matplotlib.figure import Figure

from ptdpo.report.curves import COLOURS, svg
from ptdpo.study.results import Comparison, StudyResult

_LEVEL = 0.05
_GREY = "#888888"


def forest_chart(result: StudyResult) -> str | None:
    """Return an SVG of the arms compared with the baseline, best first; ``None`` before there are any.

    Bars are the 95 % intervals of the table, each by itself; a filled dot says that p by Holm is below 0.05.
    """
    baseline = result.study.settings.baseline
    found = [(one.accuracy, one) for one in result.comparisons if one.other == baseline and one.accuracy is not None]
    if not found:
        return None
    found.sort(key=lambda pair: pair[0].mean)
    figure = Figure(figsize=(6.4, 0.9 + 0.2 * len(found)), layout="constrained")
    axes = figure.add_subplot()
    for place, (accuracy, one) in enumerate(found):
        told = one.corrected < _LEVEL
        colour = COLOURS[0] if told else _GREY
        axes.plot((accuracy.low, accuracy.high), (place, place), color=colour, linewidth=1.6)
        axes.plot(accuracy.mean, place, "o", color=colour, markerfacecolor=colour if told else "white", markersize=5)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(found)), [_label(one, result) for _, one in found], fontsize=8)
    axes.set_ylim(-0.7, len(found) - 0.3)
    axes.set_title(f"Test accuracy minus {baseline}", fontsize=10, loc="left")
    axes.set_xlabel("95 % interval over worlds and questions; filled: p by Holm < 0.05", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return svg(figure)


def _label(one: Comparison, result: StudyResult) -> str:
    """Return the arm's name, with its worlds where they are not all."""
    wanted = len(result.study.settings.worlds.test)
    return one.arm if one.worlds == wanted else f"{one.arm} ({one.worlds} of {wanted} worlds)"
