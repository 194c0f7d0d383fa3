import itertools
import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from ptdpo.statistics import (
    Estimate,
    estimate,
    holm,
    interval,
    majority_vote,
    mean_interval,
    p_value,
    pass_at_k,
    powers_of_two,
    resampled_means,
)


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_draws_without_replacement_that_hold_a_right_one(case):
    n, right, k = case
    draws = list(itertools.combinations(range(n), k))
    share = sum(any(member < right for member in draw) for draw in draws) / len(draws)
    assert pass_at_k(right=right, samples=n, k=k) == pytest.approx(share)


def test_pass_at_k_of_many_samples_does_not_overflow_and_pass_at_1_is_the_mean():
    assert pass_at_k(right=3, samples=10_000, k=1) == pytest.approx(3 / 10_000)
    assert pass_at_k(right=5_000, samples=10_000, k=64) == pytest.approx(1.0)
    survives = math.prod((9_900 - n) / (10_000 - n) for n in range(64))
    assert pass_at_k(right=100, samples=10_000, k=64) == pytest.approx(1 - survives)
    with pytest.raises(ValueError, match="k=3, 1 of 2"):
        pass_at_k(right=1, samples=2, k=3)
    assert powers_of_two(1) == [1]
    assert powers_of_two(6) == [1, 2, 4, 6]
    assert powers_of_two(8) == [1, 2, 4, 8]


def test_the_interval_is_that_of_the_mean_of_questions():
    """1,000 questions, half of them right: the standard error is sqrt(0.25 / 1000) = 0.0158."""
    found = estimate([0.0, 1.0] * 500, "x")
    assert found.mean == 0.5
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * math.sqrt(0.25 / 1000), rel=0.05)


def test_repeating_samples_of_a_question_does_not_shrink_its_interval():
    """Four equal samples per question say no more than one: the question's mean is what is drawn."""
    one_each = [float(n % 3 == 0) for n in range(60)]
    four_each = [np.mean([value] * 4) for value in one_each]
    assert estimate(one_each, "x") == estimate(four_each, "x")


def test_intervals_are_reproducible_and_depend_on_the_name():
    values = [0.25, 0.5, 1.0, 0.0, 0.75]
    assert (resampled_means(values, "a") == resampled_means(values, "a")).all()
    assert (resampled_means(values, "a") != resampled_means(values, "b")).any()
    assert len(resampled_means([0.5] * 3001, "a", resamples=2_000)) == 2_000, "chunks add up"
    with pytest.raises(ValueError, match="a: there are no questions"):
        resampled_means([], "a")


def test_the_interval_of_few_values_by_hand():
    """Differences 1, 2, 3: mean 2, deviation 1, t(2) = 4.302653, half-width 4.302653 / sqrt(3)."""
    found = mean_interval([1.0, 2.0, 3.0])
    assert astuple(found) == pytest.approx((2.0, 2.0 - 2.484138, 2.0 + 2.484138), abs=1e-5)
    wider = mean_interval([1.0, 2.0, 3.0], level=0.99)
    assert wider.high - 2.0 == pytest.approx(9.924843 / math.sqrt(3), abs=1e-5)
    assert mean_interval([0.0, 1.0] * 50).high == pytest.approx(0.5 + 1.984217 * 0.5025189 / 10, abs=1e-5)
    with pytest.raises(ValueError, match="got 1"):
        mean_interval([1.0])


def test_where_all_questions_agree_the_far_end_is_the_exact_bound():
    """All of n right: the smallest p with p^n >= 0.025."""
    found = estimate([1.0] * 50, "x")
    assert (found.mean, found.high) == (1.0, 1.0)
    assert found.low**50 == pytest.approx(0.025)
    found = estimate([0.0] * 50, "x")
    assert (found.mean, found.low) == (0.0, 0.0)
    assert (1 - found.high) ** 50 == pytest.approx(0.025)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth, hits = 0.3, 0
    for number in range(300):
        low, high = interval(resampled_means(rng.binomial(4, truth, size=80) / 4, str(number), resamples=400))
        hits += low <= truth <= high
    assert 0.90 <= hits / 300 <= 0.98


def test_majority_vote():
    assert majority_vote(["a", "b", "a"], [1.0, 0.0, 1.0]).accuracy == 1.0
    assert majority_vote(["a", "b", "b"], [1.0, 0.0, 0.0]).accuracy == 0.0
    tie = majority_vote(["a", "b", None], [1.0, 0.0, 0.0])
    assert (tie.accuracy, tie.tied) == (0.5, True), "one of two tied answers is right"
    silent = majority_vote([None, None], [0.0, 0.0])
    assert (silent.accuracy, silent.tied) == (0.0, False)


def test_holm_by_hand():
    """m = 4: 4 x 0.01, 3 x 0.02, 2 x 0.03 falls below the one before it, 1 x 0.5."""
    assert holm([0.03, 0.01, 0.5, 0.02], 4) == pytest.approx([0.06, 0.04, 0.5, 0.06])


def test_holm_counts_comparisons_that_are_only_planned():
    assert holm([0.01], 10) == pytest.approx([0.1])
    assert holm([0.4], 10) == [1.0]
    assert holm([], 3) == []
    with pytest.raises(ValueError, match="2 p-values, but only 1"):
        holm([0.1, 0.2], 1)


def test_the_p_value_is_that_of_the_t_test():
    values = [0.1, 0.3, -0.05, 0.2, 0.15]
    expected = ttest_1samp(values, 0.0).pvalue
    assert p_value(mean_interval(values), 5) == pytest.approx(expected)
    assert p_value(Estimate(0.0, 0.0, 0.0), 5) == 1.0
    assert p_value(Estimate(0.1, 0.1, 0.1), 5) == 0.0
