"""Composition of groups over training (Figure 2): how many fail as a whole, are mixed, are right as a whole."""

from collections.abc import Sequence

from ptdpo.analysis.result import Analysis, mean, plots, said
from ptdpo.report.curves import COLOURS, smoothed
from ptdpo.report.run_view import GROUPS, RunView

WINDOW = 20
NAMES = tuple(key.removeprefix("groups/").replace("_", "-") for key in GROUPS)


def groups(runs: Sequence[RunView]) -> Analysis:
    """Return the shares of the three kinds of groups over the first and the last steps of each run.

    Raises:
        ValueError: if a run logged none.
    """
    figure, panels = plots(len(GROUPS))
    rows, sentences = [], []
    for number, run in enumerate(runs):
        shares = {key: run.values(key) for key in GROUPS}
        if not shares[GROUPS[0]]:
            raise ValueError(f"{run.name}: metrics.jsonl has no {GROUPS[0]}; was it GRPO, and is a step done?")
        size = max(1, min(WINDOW, len(shares[GROUPS[0]]) // 2))
        first, last = ([mean(values[part]) for values in shares.values()] for part in (slice(size), slice(-size, None)))
        rows.append([run.name, size, *first, *last])
        changes = [f"{name} {said(one)} to {said(other)}" for name, one, other in zip(NAMES, first, last, strict=True)]
        sentences.append(f"{run.name}: {', '.join(changes)}")
        for axes, key in zip(panels, GROUPS, strict=True):
            steps = [int(row["step"]) for row in run.metrics if key in row]
            values = [row[key] for row in run.metrics if key in row]
            axes.plot(steps, smoothed(values, 5), color=COLOURS[number % len(COLOURS)], label=run.name)
    for axes, name in zip(panels, NAMES, strict=True):
        axes.set(xlabel="step", ylabel=f"share of {name} groups", ylim=(-0.02, 1.02))
    panels[0].legend(frameon=False)
    columns = ["run", "window", *(f"{name} first" for name in NAMES), *(f"{name} last" for name in NAMES)]
    sentence = "Shares of groups over the first and the last steps: " + "; ".join(sentences) + "."
    return Analysis("groups", sentence, columns, rows, figure)
