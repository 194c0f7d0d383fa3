"""Options of a choice: which one an answer names, and questions that contradict themselves."""

import pytest

from ptdpo.rewards import read_options
from ptdpo.rewards.choices import contradiction
from ptdpo.rewards.compare import same_answer
from tests.rewards.boxes import right

OPTIONS = ("20 cm", "30 cm", "\\frac{1}{2} m", "none of these")


@pytest.mark.parametrize(
    ("given", "expected", "chosen"),
    [
        ("B", "B", True), ("(B)", "B", True), ("B. 30 cm", "B", True), ("B. 20 cm", "B", False), ("30 cm", "B", True),
        ("20 cm", "B", False), ("30\\text{ cm}", "B", True), ("A", "B", False), ("B", "30 cm", True),
        ("A", "30 cm", False), ("D. none of these", "D", True), ("None of these", "D", True), ("50 cm", "C", True),
        ("A and B", "A", False), ("b", "B", True), ("30", "B", True), ("B", "B. 30 cm", True), ("C", "B. 30 cm", False),
        ("30 cm", "B. 20 cm", False), ("B", "B. 20 cm", False),
    ],
)  # fmt: skip
def test_options(given, expected, chosen):
    assert right(given, expected, *OPTIONS) is chosen


def test_a_text_that_fits_two_options_chooses_neither():
    assert right("30 cm", "A", "30 cm", "20 cm")
    assert not right("30", "A", "30 cm", "30.0 cm")
    # As it stands it is one of them.
    assert right("30 cm", "A", "30 cm", "30.0 cm")


def test_letters_that_name_other_options_say_nothing():
    assert not right("B", "(b)", "(c)", "(a)", "(b)")
    assert not right("C", "(b)", "(c)", "(a)", "(b)")
    assert right("B", "B", "A", "B", "C")


@pytest.mark.parametrize(
    ("answer", "options", "said"),
    [
        ("B", ("3", "4"), ""),
        ("C", ("3", "4"), "the answer is C, and there are 2 options"),
        ("B. 5", ("3", "4"), "option B is '4'"),
        ("A", ("3", "3.0"), "options A and B cannot be told apart"),
        ("A", ("B", "A"), "letters of other options"),
        ("5", (), ""),
    ],
)
def test_contradictory_options(answer, options, said):
    found = contradiction(answer, options, same_answer)
    assert (said in found) if said else not found


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("What is it?\nA. 3\nB. 4\nC. 5", ("3", "4", "5")),
        ("What is it? (A) red car (B) blue car", ("red car", "blue car")),
        ("Point A lies on BC. How long is AB?\nChoices:\n(A) 3 cm\n(B) 4 cm\nThink first.", ("3 cm", "4 cm")),
        ("Which?\na) 3\nb) 4", ("3", "4")),
        ("哪个？\nA、三角形\nB、正方形", ("三角形", "正方形")),
        ("Which?\nA．3\nB．4", ("3", "4")),
        ("How many cubes?", ()),
        ("Find A.", ()),
    ],
)
def test_options_are_read_from_the_question(question, options):
    assert read_options(question) == options


def test_letters_of_a_run_in_another_order_need_options():
    assert right("CA", "AC", "1", "2", "3")
    assert not right("CB", "AC", "1", "2", "3")
    assert not right("CA", "AC")
    assert right("A/C", "AC")
    assert not right("B/A", "A/B")
