"""What samples say: means with intervals over questions or over seeds, pass@k, majority vote."""

import hashlib
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import stdtr, stdtrit

RESAMPLES = 10_000
LEVEL = 0.95
_CELLS = 4_000_000

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Vote:
    """Majority vote over the samples of a question.

    Attributes:
        accuracy: of the answer most samples gave; in a tie, the share of tied answers that are right.
        tied: whether several answers share the first place.
    """

    accuracy: float
    tied: bool


def resampled_means(values: Sequence[float], name: str, resamples: int = RESAMPLES) -> Float[Array, "b"]:
    """Return the means of ``resamples`` draws of whole questions with replacement.

    The question is the unit that is drawn: samples of one question are not independent, so each question enters as
    the mean of its samples.

    Args:
        values: one mean per question.
        name: decides the random stream, so that the same data give the same interval.
        resamples: how many draws.

    Raises:
        ValueError: without values.
    """
    if not len(values):
        raise ValueError(f"{name}: there are no questions to average")
    # It takes a second to load; tables and reports without an interval over questions do without.
    from scipy.stats import bootstrap

    data = np.asarray(values, dtype=np.float64)
    if len(data) == 1:
        return np.repeat(data, resamples)
    stream = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
    drawn = bootstrap(
        (data,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, _CELLS // len(data)),
        method="percentile",
        rng=stream,
    )
    return drawn.bootstrap_distribution


def interval(means: Float[Array, "b"]) -> tuple[float, float]:
    """Return the percentile interval of resampled means."""
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def estimate(values: Sequence[float], name: str) -> Estimate:
    """Return mean and 95 % interval of one value per question, each between 0 and 1.

    Where all questions came out the same, at 0 or at 1, resampling cannot see that this is chance: the far end is
    then the exact binomial bound for that many questions.
    """
    low, high = interval(resampled_means(values, name))
    mean = float(np.mean(np.asarray(values, dtype=np.float64)))
    bound = ((1 - LEVEL) / 2) ** (1 / len(values))
    if mean == 1.0:
        low = bound
    if mean == 0.0:
        high = 1.0 - bound
    return Estimate(mean, low, high)


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Estimate:
    """Return the mean of independent values and its t-interval: mean +- t(n - 1) s / sqrt(n).

    For few values, such as one per seed, where a bootstrap would be too narrow.

    Args:
        values: two or more.
        level: how often such an interval holds the true mean.

    Raises:
        ValueError: with fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 values, got {len(values)}")
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
    half = t_quantile(len(values), level) * error
    return Estimate(mean, mean - half, mean + half)


def t_quantile(samples: int, level: float = LEVEL) -> float:
    """Return how many standard errors a two-sided t-interval of so many values reaches from their mean."""
    return float(stdtrit(samples - 1, (1 + level) / 2))


def p_value(estimate: Estimate, samples: int) -> float:
    """Return the two-sided p-value of no difference that a 95 % t-interval of so many values stands for.

    A mean with an interval without width differs from 0 for certain, unless it is 0.
    """
    error = (estimate.high - estimate.low) / 2 / t_quantile(samples)
    if error == 0:
        return float(estimate.mean == 0)
    return float(2 * stdtr(samples - 1, -abs(estimate.mean) / error))


def holm(p_values: Sequence[float], comparisons: int) -> list[float]:
    """Return p-values corrected for the number of comparisons by Holm's step-down procedure (1979).

    With p_(1) <= p_(2) <= ... of m comparisons, the corrected p_(i) is max over j <= i of min(1, (m - j + 1) p_(j)).

    Args:
        p_values: of the comparisons that were made.
        comparisons: m, those that are planned; of those not made yet p counts as 1.

    Raises:
        ValueError: if there are more p-values than comparisons.
    """
    if len(p_values) > comparisons:
        raise ValueError(f"{len(p_values)} p-values, but only {comparisons} comparisons")
    order = sorted(range(len(p_values)), key=lambda n: p_values[n])
    corrected, largest = [0.0] * len(p_values), 0.0
    for place, number in enumerate(order):
        largest = max(largest, min(1.0, (comparisons - place) * p_values[number]))
        corrected[number] = largest
    return corrected


def pass_at_k(*, right: int, samples: int, k: int) -> float:
    """Return the unbiased estimate of the chance that one of k samples is right: 1 - C(n - c, k) / C(n, k).

    Chen et al. 2021 (arXiv 2107.03374, equation 1).

    Raises:
        ValueError: unless 1 <= k <= samples and 0 <= right <= samples.
    """
    if not 1 <= k <= samples or not 0 <= right <= samples:
        raise ValueError(f"pass@k needs 1 <= k <= samples and 0 <= right <= samples: k={k}, {right} of {samples}")
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


def powers_of_two(samples: int) -> list[int]:
    """Return the k at which pass@k is shown: 1, 2, 4 ... and the number of samples."""
    return sorted({*(2**e for e in range(samples.bit_length())), samples})


def majority_vote(answers: Sequence[Hashable | None], right: Sequence[float]) -> Vote:
    """Return whether the answer given most often is right.

    Args:
        answers: what equal answers have in common, per sample; ``None``, no answer, does not vote.
        right: 1.0 or 0.0 per sample.
    """
    groups: dict[Hashable, list[float]] = {}
    for answer, accuracy in zip(answers, right, strict=True):
        if answer is not None:
            groups.setdefault(answer, []).append(accuracy)
    if not groups:
        return Vote(0.0, tied=False)
    most = max(map(len, groups.values()))
    first = [sum(group) / len(group) for group in groups.values() if len(group) == most]
    return Vote(sum(first) / len(first), tied=len(first) > 1)
