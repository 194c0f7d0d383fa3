import pytest

from ptdpo.evaluate.intervals import paired_interval
from ptdpo.evaluate.scoring import ScoredResponse, accuracy_by_source, mean_accuracy
from ptdpo.records import Problem, Verdict


def scored(source, accuracy):
    return ScoredResponse(Problem("1", (), "q", "a", source), 0, "r", Verdict(accuracy, 0.0, None))


def test_means():
    rows = [scored("a", 1.0), scored("a", 0.0), scored("b", 1.0)]
    assert mean_accuracy(rows) == pytest.approx(2 / 3)
    assert accuracy_by_source(rows) == {"a": 0.5, "b": 1.0}
    with pytest.raises(ValueError, match="no responses"):
        mean_accuracy([])


def test_paired_interval_by_hand():
    """Differences 1, 2, 3: mean 2, deviation 1, t(2) = 4.303, half-width 4.303 / sqrt(3)."""
    mean, low, high = paired_interval([1.0, 2.0, 3.0])
    assert (mean, low, high) == pytest.approx((2.0, 2.0 - 2.484338, 2.0 + 2.484338), abs=1e-5)
    with pytest.raises(ValueError, match="got 1"):
        paired_interval([1.0])
