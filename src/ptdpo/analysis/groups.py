"""Composition of groups over training (Figure 2): how many fail as a whole, are mixed, are right as a whole."""

from collections.abc import Sequence

from ptdpo.analysis.result import Analysis, mean, plot, said
from ptdpo.report.curves import COLOURS, smoothed
from ptdpo.report.run_view import GROUPS, RunView

WINDOW = 20


def groups(runs: Sequence[RunView]) -> Analysis:
    """Return the shares of the three kinds of groups over the first and the last steps of each run.

    Raises:
        ValueError: if a run logged none.
    """
    figure, axes = plot()
    rows, sentences = [], []
    for number, run in enumerate(runs):
        shares = {key: run.values(key) for key in GROUPS}
        if not shares[GROUPS[0]]:
            raise ValueError(f"{run.name}: metrics.jsonl has no {GROUPS[0]}; was it GRPO, and is a step done?")
        size = max(1, min(WINDOW, len(shares[GROUPS[0]]) // 2))
        first, last = ([mean(values[part]) for values in shares.values()] for part in (slice(size), slice(-size, None)))
        rows.append([run.name, size, *first, *last])
        sentences.append(f"{run.name}: all-fail groups go from {said(first[0])} to {said(last[0])}")
        fails = [(int(row["step"]), row[GROUPS[0]]) for row in run.metrics if GROUPS[0] in row]
        steps, values = zip(*fails, strict=True)
        axes.plot(steps, smoothed(values, 5), color=COLOURS[number % len(COLOURS)], label=run.name)
    axes.set_xlabel("step")
    axes.set_ylabel("share of all-fail groups")
    axes.set_ylim(0, 1)
    axes.legend(frameon=False)
    names = [key.removeprefix("groups/").replace("_", "-") for key in GROUPS]
    columns = ["run", "window", *(f"{name} first" for name in names), *(f"{name} last" for name in names)]
    return Analysis("groups", "; ".join(sentences) + ".", columns, rows, figure)
