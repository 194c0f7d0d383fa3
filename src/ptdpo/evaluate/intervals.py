"""Confidence intervals."""

import math
import statistics
from collections.abc import Sequence

# 97.5 % points of Student's t for 1 to 30 degrees of freedom.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def paired_interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, lower and upper end of the 95 % t-interval of paired differences.

    Raises:
        ValueError: with fewer than 2 or more than 31 differences.
    """
    n = len(differences)
    if not 2 <= n <= len(_T) + 1:
        raise ValueError(f"an interval needs 2 to {len(_T) + 1} paired differences, got {n}")
    mean = statistics.fmean(differences)
    half = _T[n - 2] * statistics.stdev(differences) / math.sqrt(n)
    return mean, mean - half, mean + half
