import json
from dataclasses import replace

import pytest

from ptdpo.data.files import write_problems
from ptdpo.evaluate.compare import compare, write_comparison
from ptdpo.evaluate.run import DataChoice, evaluate
from ptdpo.evaluate.settings import Grading, SamplingSettings
from ptdpo.records import Problem
from tests.evaluate.fixtures import NINE, EchoEngine, rows_of, write_split

TWO = SamplingSettings(samples=2)


def number_of(problem):
    return int(problem.id.replace("_", "-").rsplit("-", 1)[1])


def right_on(numbers):
    return lambda problem, sample: f"\\boxed{{{problem.answer if number_of(problem) in numbers else 'no'}}}"


@pytest.fixture
def run(tmp_path):
    """Evaluate an engine that is right on the given question numbers, over 40 questions."""
    path = tmp_path / "mine.jsonl"
    write_problems(path, [Problem(f"q-{number}", (), f"{number}?", "1") for number in range(40)])

    def make(name, numbers, sampling=TWO, revision=None, **settings):
        choice = DataChoice(["mine"], {"mine": path})
        evaluate(EchoEngine(right_on(numbers), revision or name), choice, sampling, tmp_path / name, cache=tmp_path,
                 **settings)  # fmt: skip
        return tmp_path / name

    return make


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (range(10), range(30), "better"),
        (range(30), range(10), "worse"),
        (range(20), range(1, 21), "not distinguishable"),
        (range(20), range(20), "not distinguishable"),
        (range(20), range(1, 22), "not distinguishable"),
        (range(1, 22), range(20), "not distinguishable"),
    ],
)
def test_verdicts(run, before, after, verdict):
    comparison = compare(run("a", before), run("b", after))
    (difference,) = comparison.differences
    assert difference.verdict == verdict
    assert difference.gain.mean == pytest.approx((len(set(after)) - len(set(before))) / 40)
    assert comparison.table().rows[0][-1] == verdict


def test_the_interval_is_paired(run):
    """Two runs that differ on 8 of 40 questions, always to the better: unpaired, they could not be told apart."""
    comparison = compare(run("a", range(16)), run("b", range(24)))
    (difference,) = comparison.differences
    assert difference.verdict == "better"
    assert difference.gain.high - difference.gain.low < 0.3
    backwards = compare(run("b", range(24)), run("a", range(16))).differences[0]
    assert (backwards.gain.mean, backwards.verdict) == (-difference.gain.mean, "worse")


def test_few_questions_allow_no_verdict(tmp_path):
    path = tmp_path / "few.jsonl"
    write_problems(path, [Problem(f"q-{number}", (), f"{number}?", "1") for number in range(19)])
    for name, numbers in (("a", range(0)), ("b", range(19))):
        evaluate(EchoEngine(right_on(numbers)), DataChoice(["few"], {"few": path}), TWO, tmp_path / name,
                 cache=tmp_path)  # fmt: skip
    (difference,) = compare(tmp_path / "a", tmp_path / "b").differences
    assert difference.verdict == "too few questions to say (fewer than 20)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.6}, r"sampling.temperature: 1.0 against 0.6"),
        ({"samples": 4}, r"sampling.samples: 2 against 4"),
        ({"max_new_tokens": 9, "top_p": 0.5}, r"max_new_tokens: 4096 against 9; sampling.top_p: 1.0 against 0.5"),
    ],
)
def test_other_sampling_is_refused_and_named(run, change, message):
    with pytest.raises(ValueError, match=f"cannot be compared: .*{message}"):
        compare(run("a", range(3)), run("b", range(3), replace(TWO, **change)))


def test_another_grading_mode_is_refused(run):
    with pytest.raises(ValueError, match="grading mode: 'sound' against 'mathruler'"):
        compare(run("a", range(3)), run("b", range(3), grading=Grading("mathruler")))


def test_other_data_is_refused(run, tmp_path):
    first = run("a", range(3))
    write_problems(tmp_path / "mine.jsonl", [Problem(f"q-{n}", (), f"{n}?", "2") for n in range(40)])
    with pytest.raises(ValueError, match=r"data fingerprint.mine: '\w+' against '\w+'"):
        compare(first, run("b", range(3)))


def test_seeds_and_batches_may_differ_and_the_same_model_is_noted(run):
    first = run("a", range(3), revision="same")
    second = run("b", range(3), replace(TWO, seed=7, batch_size=3), revision="same")
    assert "both runs are of the same model, by its revision" in compare(first, second).notes


def test_nothing_in_common_is_refused(run, tmp_path):
    write_problems(tmp_path / "other.jsonl", [Problem("q-1", (), "1?", "1")])
    choice = DataChoice(["other"], {"other": tmp_path / "other.jsonl"})
    evaluate(EchoEngine(), choice, TWO, tmp_path / "b", cache=tmp_path)
    with pytest.raises(ValueError, match=r"share no benchmark"):
        compare(run("a", range(3)), tmp_path / "b")


def test_all_nine_give_the_averages_and_files(tmp_path):
    for name in NINE:
        write_split(tmp_path / "nine", name, rows_of(name, 24))
    choice = DataChoice(NINE, dict.fromkeys(NINE, tmp_path / "nine"))
    for out, numbers in (("a", range(6)), ("b", range(18))):
        evaluate(EchoEngine(right_on(numbers)), choice, TWO, tmp_path / out, cache=tmp_path / "cache")
    comparison = compare(tmp_path / "a", tmp_path / "b")
    assert [d.title for d in comparison.differences][-3:] == ["AVG General", "AVG Vision-dependent", "AVG Overall"]
    assert all(d.gain.mean == pytest.approx(0.5) and d.verdict == "better" for d in comparison.differences)
    overall, single = comparison.differences[-1].gain, comparison.differences[0].gain
    assert overall.high - overall.low < single.high - single.low, "nine benchmarks say more than one"
    write_comparison(tmp_path / "c", comparison)
    content = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert len(content["differences"]) == 12
    assert content["differences"][0]["verdict"] == "better"
    assert (tmp_path / "c" / "comparison.csv").read_text().count("\n") == 13
    assert "| MMK12 | 24 | 25.00 | 75.00 | 50.00 [" in (tmp_path / "c" / "comparison.md").read_text()
