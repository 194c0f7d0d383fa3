"""Intervals of a gain over worlds and questions: by hand, by the analysis of variance, and by how often they hold."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ptdpo.compare.differences import gains_over_first, worlds_interval
from ptdpo.compare.plan import ComparePlan
from ptdpo.compare.run import ComparisonResult, TestedRun
from ptdpo.compare.tables import comparison_tables, write_tables
from ptdpo.evaluate.scoring import Scores
from ptdpo.statistics import mean_interval

T1, T4 = 12.706205, 2.776445  # 97.5 % points of Student's t


def worlds_of(table, *, shared):
    """Rows are worlds; ``shared``: all are asked the same questions."""
    return [{(0 if shared else w, q): value for q, value in enumerate(row)} for w, row in enumerate(table)]


def test_two_worlds_that_agree_by_chance_are_not_certain():
    """One question of 250 gained in both: the seeds' means do not differ, the questions do."""
    table = [[1.0] + [0.0] * 249] * 2
    found = worlds_interval(worlds_of(table, shared=False))
    d = np.array(table) - 0.004
    half = T1 * math.sqrt(500 / 499 * ((d / 500) ** 2).sum())
    assert found.mean == pytest.approx(0.004)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=1e-6)
    assert found.low < 0 < found.high


def test_with_questions_of_their_own_the_worlds_decide():
    """Where worlds differ by more than their questions can make of it, it is the t-interval of their means."""
    table = [[w + 0.1, w - 0.1] for w in (0.0, 1.0, 2.0, 4.0)]
    found, plain = worlds_interval(worlds_of(table, shared=False)), mean_interval([0.0, 1.0, 2.0, 4.0])
    assert (found.mean, found.low, found.high) == pytest.approx((plain.mean, plain.low, plain.high))


def test_shared_questions_add_their_own_variance():
    """Five worlds, four questions, both with effects of their own: the two-way formula from row and column means."""
    rng = np.random.default_rng(1)
    table = rng.normal(size=(5, 1)) + rng.normal(size=(1, 4)) + rng.normal(size=(5, 4))
    worlds, questions = table.mean(axis=1).var(ddof=1) / 5, table.mean(axis=0).var(ddof=1) / 4
    both = table.var(ddof=1) / 20
    found = worlds_interval(worlds_of(table, shared=True))
    assert (found.high - found.low) / 2 == pytest.approx(T4 * math.sqrt(worlds + questions - both), rel=1e-6)
    assert worlds < worlds + questions - both > questions, "wider than either alone"


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("between", "least", "most"), [(0.3, 0.92, 0.98), (0.1, 0.95, 1.0)])
def test_the_interval_holds_the_truth_at_least_as_often_as_it_says(shared, between, least, most):
    """Answers right or wrong in five worlds; where these differ little, the floor by the questions makes it wide."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        world = between * rng.normal(size=(5, 1))
        question = 0.3 * rng.normal(size=(1 if shared else 5, 20))
        answers = (rng.random((5, 20)) < 0.5) - 1.0 * (rng.random((5, 20)) < 0.5)
        found = worlds_interval(worlds_of(world + question + answers, shared=shared))
        hits += found.low <= 0 <= found.high
    assert least <= hits / 300 <= most


@pytest.mark.parametrize("worlds", [[], [{1: 0.5}], [{1: 0.5}, {}]])
def test_what_has_no_interval(worlds):
    with pytest.raises(ValueError, match="two worlds with questions"):
        worlds_interval(worlds)


def result_of(accuracies, seeds):
    """Two questions per seed; a recipe answers each right so often."""
    plan = ComparePlan((), tuple(range(seeds)))
    runs = {
        name: [
            TestedRun(n, Scores(mean, {"x": mean}, {"1": mean, "2": mean}, f"file {n}"), 0.1 * n, math.nan, 0.2, 1.0)
            for n, mean in enumerate(means)
        ]
        for name, means in accuracies.items()
    }
    return ComparisonResult(plan, {}, dict.fromkeys(runs, ()), dict.fromkeys(range(seeds), 0.0), runs)


FIVE = {"base": [0.1, 0.2, 0.1, 0.2, 0.1], "a": [0.2, 0.2, 0.3, 0.4, 0.1], "b": [0.1] * 5, "c": [0.5] * 5}


def test_three_comparisons_are_corrected_for_three():
    gains = {gain.name: gain for gain in gains_over_first(result_of(FIVE, 5))}
    assert list(gains) == ["a", "b", "c"]
    differences = [a - b for a, b in zip(FIVE["a"], FIVE["base"], strict=True)]
    assert gains["a"].accuracy.mean == pytest.approx(np.mean(differences))
    alone, together = (one.high - one.mean for one in (gains["a"].accuracy, gains["a"].corrected))
    # t(4) at 1 - 0.05 / 6, over t(4) at 0.975.
    assert together / alone == pytest.approx(3.960801 / T4, rel=1e-5)
    assert gains["a"].logged["entropy"] is None
    assert gains["a"].logged["all_fail"].mean == 0.0
    single = {name: FIVE[name] for name in ("base", "a")}
    (gain,) = gains_over_first(result_of(single, 5))
    assert gain.corrected == gain.accuracy == gains["a"].accuracy


def test_questions_are_shared_only_where_the_files_are_the_same():
    """The same ids in two files are other questions; in one file they are the same ones."""
    seeds, table = 3, [[1.0, 0.0, 0.0], [1.0, 0.0, 1.0], [1.0, 0.0, 0.0]]

    def run(seed, values, file):
        answers = {str(n): value for n, value in enumerate(values)}
        return TestedRun(seed, Scores(float(np.mean(values)), {}, answers, file), 0.1, 0.1, 0.1, 1.0)

    for shared in (False, True):
        files = ["one"] * seeds if shared else [f"file {n}" for n in range(seeds)]
        runs = {
            "base": [run(n, [0.0] * 3, files[n]) for n in range(seeds)],
            "a": [run(n, table[n], files[n]) for n in range(seeds)],
        }
        plan = ComparePlan((), tuple(range(seeds)))
        (gain,) = gains_over_first(ComparisonResult(plan, {}, dict.fromkeys(runs, ()), {}, runs))
        assert gain.accuracy == worlds_interval(worlds_of(table, shared=shared))
    apart, together = (worlds_interval(worlds_of(table, shared=shared)) for shared in (False, True))
    assert together.high > apart.high


def test_tables_show_both_and_warn_below_five_seeds(tmp_path):
    means, differences, *_ = comparison_tables(result_of(FIVE, 5))
    assert differences.columns[1:3] == ("test accuracy", "test accuracy, all 3 together")
    assert "Bonferroni" in differences.note
    assert not means.note
    few = result_of({name: values[:2] for name, values in FIVE.items() if name in ("base", "a")}, 2)
    means, differences, *_ = comparison_tables(few)
    assert differences.columns[1:3] == ("test accuracy", "all-fail groups"), "one comparison needs no correction"
    assert "2 seeds say little" in means.note
    write_tables(tmp_path, few)
    assert "at least 5" in (tmp_path / "comparison.md").read_text()
    assert replace(few.plan, seeds=tuple(range(5))).warnings == []


def test_the_warning_comes_before_the_work(tmp_path, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("ptdpo.compare.run.check_comparison", lambda *_: None)
    monkeypatch.setattr("ptdpo.compare.run._tune", stop)
    from ptdpo.compare.run import run_comparison

    plan = ComparePlan((SimpleNamespace(name="a"),), (0, 1))
    with pytest.raises(KeyboardInterrupt):
        run_comparison(tmp_path, plan)
    assert "warning: 2 seeds say little" in capsys.readouterr().err
