"""What each recipe gains over the first, with intervals that count the worlds and the questions, and the comparisons.

A seed is a world: it draws the training and may have its own start model, data and test questions.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ptdpo.compare.run import ComparisonResult
from ptdpo.evaluate.scoring import Scores
from ptdpo.statistics import LEVEL, Estimate, mean_interval, t_quantile

# Logged by training, by their names in ``TestedRun``.
LOGGED = ("all_fail", "entropy", "kl")


@dataclass(frozen=True, slots=True)
class GainOverFirst:
    """A recipe minus the first, paired by seed.

    Attributes:
        name: of the recipe.
        accuracy: gain in test accuracy, with the 95 % interval of this comparison by itself.
        corrected: the same with a wider interval: all comparisons of the table hold together in 95 % of cases.
        logged: difference in each metric of ``LOGGED`` with its t-interval over seeds; ``None`` where a run logs none.
    """

    name: str
    accuracy: Estimate
    corrected: Estimate
    logged: Mapping[str, Estimate | None]


def gains_over_first(result: ComparisonResult) -> list[GainOverFirst]:
    """Return one line per recipe but the first.

    The corrected intervals are Bonferroni's, at level 1 - 0.05 / comparisons, which is safe however they depend.
    """
    first, *others = result.runs
    level = 1 - (1 - LEVEL) / max(len(others), 1)
    gains = []
    for name in others:
        pairs = list(zip(result.runs[name], result.runs[first], strict=True))
        worlds = [differences_by_question(run.scores, base.scores) for run, base in pairs]
        logged = {key: _over_seeds([getattr(run, key) - getattr(base, key) for run, base in pairs]) for key in LOGGED}
        gains.append(GainOverFirst(name, worlds_interval(worlds), worlds_interval(worlds, level), logged))
    return gains


def worlds_interval(worlds: Sequence[Mapping[Hashable, float]], level: float = LEVEL) -> Estimate:
    """Return the mean difference over worlds and its interval, where worlds and questions both are draws.

    With d_wq the difference at question q of world w, m_w its mean over the Q_w questions of the world, m the mean of
    m_w over the W worlds and u_wq = (d_wq - m) / (W Q_w), the variance of m clustered by a key is

        V_key = G / (G - 1) sum_g (sum of the u_wq in cluster g)^2,  G clusters,

    and V = max(V_world + V_question - V_both, V_world, V_question) (two-way clustering, Cameron, Gelbach and Miller
    2011, never below either way alone). If each world has questions of its own, V_question is V_both and V is V_world,
    but at least what the questions alone make of it: two worlds may agree by chance. The interval is
    m +- t_(W - 1) sqrt(V); it errs on the wide side where worlds differ by no more than their questions make them.

    Args:
        worlds: for each world, two or more, the difference at each of its questions; questions of one key are the same.
        level: how often such an interval holds the true mean.

    Raises:
        ValueError: with fewer than two worlds, or a world without questions.
    """
    if len(worlds) < 2 or not all(worlds):
        raise ValueError(f"an interval needs two worlds with questions, got {[len(world) for world in worlds]}")
    mean = float(np.mean([np.mean(list(world.values())) for world in worlds]))
    residuals = [
        (number, key, (value - mean) / (len(worlds) * len(world)))
        for number, world in enumerate(worlds)
        for key, value in world.items()
    ]
    by_world = _clustered((number, u) for number, _, u in residuals)
    by_question = _clustered((key, u) for _, key, u in residuals)
    both = _clustered(((number, key), u) for number, key, u in residuals)
    variance = max(by_world + by_question - both, by_world, by_question)
    half = t_quantile(len(worlds), level) * math.sqrt(variance)
    return Estimate(mean, mean - half, mean + half)


def _clustered(residuals: Iterable[tuple[Hashable, float]]) -> float:
    sums: dict[Hashable, float] = {}
    for cluster, residual in residuals:
        sums[cluster] = sums.get(cluster, 0.0) + residual
    # One question in all worlds: nothing is known of others.
    correction = len(sums) / (len(sums) - 1) if len(sums) > 1 else 1.0
    return correction * sum(value * value for value in sums.values())


def differences_by_question(ours: Scores, theirs: Scores) -> dict[Hashable, float]:
    """Return the difference at each question; questions of files with the same content are the same in all worlds."""
    assert ours.by_question.keys() == theirs.by_question.keys(), "a plan asks all recipes of a seed the same"
    return {(ours.fingerprint, key): value - theirs.by_question[key] for key, value in ours.by_question.items()}


def _over_seeds(values: Sequence[float]) -> Estimate | None:
    return None if any(math.isnan(value) for value in values) else mean_interval(values)
