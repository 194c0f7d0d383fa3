"""What the divergence does to training (Figure 8): reward and gradient norm under each, from one start."""

from collections.abc import Mapping, Sequence
from typing import get_args

from ptdpo.algo.divergence import Kind
from ptdpo.analysis.asked import OfRecipe
from ptdpo.analysis.result import Analysis, Cell, mean, plots, said
from ptdpo.report.curves import COLOURS, smoothed

# At most so many steps at either end are averaged.
WINDOW = 10
STEPS = 40
COLUMNS = (
    "divergence", "steps", "reward first", "reward last", "gradient norm first", "gradient norm mean",
    "gradient norm largest", "entropy last", "response length last",
)  # fmt: skip


def divergence(asked: OfRecipe) -> Analysis:
    """Train the recipe once under each divergence, with all else alike, and compare reward and gradient norm.

    The gradient norm is that of the whole loss before it is clipped. Finished trainings are kept.

    Raises:
        ValueError: if the recipe does not tutor, or cannot be trained under one of them; none is trained then.
    """
    own: Kind = asked.settings.tutoring_divergence
    arms = {kind: asked.arm(kind, {"tutoring_divergence": kind}, STEPS) for kind in get_args(Kind)}
    return compare_trainings({kind: asked.trained(arm) for kind, arm in arms.items()}, own)


def compare_trainings(runs: Mapping[str, Sequence[Mapping[str, float]]], own: str) -> Analysis:
    """Return the analysis of finished trainings.

    Args:
        runs: rows of metrics by divergence.
        own: that of the recipe, which the sentence names first.
    """
    figure, (above, below) = plots(2)
    rows: list[list[Cell]] = []
    sentences = []
    for number, (kind, metrics) in enumerate(sorted(runs.items(), key=lambda one: one[0] != own)):
        reward, norm = _values(metrics, "reward"), _values(metrics, "grad_norm")
        size = max(1, min(WINDOW, len(reward) // 2))
        first, last, early = mean(reward[:size]), mean(reward[-size:]), mean(norm[:size])
        entropy, length = _values(metrics, "entropy"), _values(metrics, "completions/mean_length")
        row = [kind, len(metrics), first, last, early, mean(norm), max(norm, default=None)]
        rows.append([*row, mean(entropy[-size:]), mean(length[-size:])])
        sentences.append(f"{kind}: {said(first)} to {said(last)}, {said(early)} and {said(mean(norm))}")
        for axes, values in ((above, reward), (below, norm)):
            axes.plot(range(1, len(values) + 1), smoothed(values, 5), color=COLOURS[number], label=kind)
    above.set_ylabel("reward")
    below.set_ylabel("gradient norm before clipping")
    below.set_yscale("log")
    for axes in (above, below):
        axes.set_xlabel("step")
        axes.legend(frameon=False, fontsize=8)
    sentence = "Reward over the first and the last steps, gradient norm over the first and over all: "
    return Analysis("divergence", sentence + "; ".join(sentences) + ".", COLUMNS, rows, figure)


def _values(metrics: Sequence[Mapping[str, float]], key: str) -> list[float]:
    return [row[key] for row in metrics if key in row]
