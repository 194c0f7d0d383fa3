"""Parity against mathruler itself."""

import json
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mathruler.grader import extract_boxed_content, grade_answer

from ptdpo.records import Answered
from ptdpo.rewards import grade, grade_many
from ptdpo.rewards.parity import boxed_content, parity_here, parity_in_worker
from ptdpo.rewards.pool import WorkerPool

CASES = Path(__file__).parents[1] / "data" / "grading_cases.jsonl"
# No powers of powers and no factorials: mathruler itself would hang this process on them.
ATOMS = [
    "1", "2", "3", "12", "0.5", ".5", "1,234", "007", "1e3", "A", "b", "x", "y", "pi", "e", "ln", "yes", "red",
    "+", "-",
    "*", "/", "^2", "(", ")", "[", "]", "{", "}", ",", " ", "\\frac{1}{2}", "\\frac12", "\\sqrt{2}", "\\sqrt3",
    "\\pi",
    "\\text{cm}", "\\text{A}", "cm", "hours", "%", "\\%", "$", "^\\circ", "°", "=", "<", "|", " or ", "million",
    "None",
    "inf", "nan", "√", "∞", "\\cup", "\\left(", "\\right)", "x=", "'", ";", "\\", "\n", "\u00a0", "２", "−", "\x00",
]  # fmt: skip
ANSWERS = st.lists(st.sampled_from(ATOMS), min_size=1, max_size=5).map("".join)
INTEGERS = st.integers(-(10**16), 10**16).map(str)
PLAIN = st.text(st.characters(exclude_characters="!^*.[", exclude_categories=("Cs",)), min_size=1, max_size=8)


def plainly(response: str, answer: str) -> bool:
    with warnings.catch_warnings():
        # sympy's parser compiles what it is given: "1(2)" earns a SyntaxWarning.
        warnings.simplefilter("ignore")
        return grade_answer(extract_boxed_content(response), answer)


@settings(max_examples=400)
@given(st.one_of(ANSWERS, INTEGERS, PLAIN), st.one_of(ANSWERS, INTEGERS, PLAIN).filter(str.strip))
def test_any_answer_gets_mathrulers_verdict(given_answer, answer):
    response = f"x</think> \\boxed{{{given_answer}}}"
    verdict = grade(response, answer, seconds=60, mode="mathruler")
    assert verdict.note == ""
    assert bool(verdict.accuracy) == plainly(response, answer)


@settings(max_examples=300)
@given(st.one_of(ANSWERS, INTEGERS), st.sampled_from(["{}", "({})", "{} ", "${}$", "{}.0", "\\text{{{}}}", "{{{}}}"]))
def test_an_answer_in_other_dress_gets_mathrulers_verdict(answer, dress):
    # A comparison of Python's is what mathruler evaluates and we do not: `(1==1)` for `1==1`.
    if answer.strip() and "==" not in answer:
        response = f"\\boxed{{{dress.format(answer)}}}"
        assert bool(grade(response, answer, seconds=60, mode="mathruler").accuracy) == plainly(response, answer)


@given(st.lists(st.sampled_from(["\\boxed{", "\\boxed", "{", "}", "\\", "a", " ", "\n"]), max_size=12).map("".join))
def test_the_box_is_the_one_that_mathruler_takes(text):
    assert boxed_content(text) == extract_boxed_content(text)


def test_the_labelled_table_gets_mathrulers_verdicts():
    rows = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    ordinary = [row for row in rows if row["category"] != "hostile"]
    verdicts = grade_many(
        [Answered(row["response"], row["answer"]) for row in ordinary], seconds=60, batch_seconds=600, mode="mathruler"
    )
    theirs = [plainly(row["response"], row["answer"]) for row in ordinary]
    different = [r["id"] for r, v, t in zip(ordinary, verdicts, theirs, strict=True) if bool(v.accuracy) != t]
    assert different == []
    assert 100 < sum(theirs) < len(theirs) - 100


@pytest.mark.parametrize(
    ("given_answer", "expected"), [("3", "4"), ("red", "blue"), ("B", "C"), ("8.0", "7"), ("7", "7")]
)
def test_words_integers_and_letters_need_no_worker(given_answer, expected):
    assert parity_here(given_answer, expected) is plainly(f"\\boxed{{{given_answer}}}", expected)
    with WorkerPool() as pool:
        grade_many([Answered(f"\\boxed{{{given_answer}}}", expected)], pool=pool, mode="mathruler")
        assert pool.pids == ()


def test_no_box_is_what_mathruler_calls_none():
    assert grade("it is 3", "3", mode="mathruler").extracted is None
    # mathruler's extraction returns the word, and its comparison ignores case.
    assert grade("it is 3", "none", mode="mathruler").accuracy == float(plainly("it is 3", "none")) == 1.0
    assert grade("it is 3", "none", mode="sound").accuracy == 0.0


@pytest.mark.parametrize("code", ["y1.n()", "(12.5).n()"])
def test_code_is_not_run_even_where_mathruler_runs_it(code):
    truth = code.removesuffix(".n()").strip("()")
    assert plainly(f"\\boxed{{{code}}}", truth) is True
    assert grade(f"\\boxed{{{code}}}", truth, mode="mathruler").accuracy == 0.0


@pytest.mark.parametrize(
    ("given", "expected"),
    [("(2==2)", "(1==1)"), ("(1!=2)", "(1==1)"), ("(2==3)", "(1==1)"), ("(1==1)", "1"), ("(1<2)", "(3>2)")],
)
def test_comparisons_are_judged_as_mathruler_judges_them(given, expected):
    assert parity_in_worker(given, expected) == grade_answer(given, expected)
