"""The rules on written cases, on the project's own hints, and on the labelled sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptdpo.data.easy_vqa import easy_vqa_hint, load_easy_vqa
from ptdpo.data.mosaic import BEGINNINGS, NAMES, REGIONS, Rule, hint, question
from ptdpo.hints import check_hint
from ptdpo.hints.labelled import load_labelled, score
from ptdpo.hints.quality import REASONS
from ptdpo.records import Hint, Problem

LOOK = "The bars in the left half."


def names(answer, reason, question="How many tickets were sold?", look=LOOK, images=("a.png",)):
    return check_hint(Problem("1", images, question, answer), Hint(look, reason)).names


TWELVE = [
    "12",
    "12.0",
    "twelve",
    "a dozen",
    "3 + 9",
    "4*3",
    "4 \\times 3",
    "\\frac{24}{2}",
    "$12$",
    "24 / 2",
    "12 tickets",
]


@pytest.mark.parametrize("form", TWELVE)
def test_twelve_in_any_form_is_a_leak(form):
    assert "answer" in names("12", f"You should get {form} at the end.")


@pytest.mark.parametrize(
    "form", ["0.75", "75 %", "75\\%", "three quarters", "\\frac{3}{4}", "6/8", "seventy-five percent"]
)
@pytest.mark.parametrize("answer", ["3/4", "0.75", "75%", "\\frac{3}{4}"])
def test_shares_are_compared_as_fraction_decimal_and_percentage(answer, form):
    assert "answer" in names(answer, f"The share comes to {form} of all.")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("1200", "It ends at 1,200."), ("600 m", "In all it is 0.6 km."), ("0.4 s", "That is 400 ms."),
        ("3 feet", "It spans 36 inches."), ("2 weeks", "All takes 14 days."),
        ("50 mL", "Pour \\dfrac{1}{20} litre."),
        ("5\\sqrt{2}", "This is about 7.07."), ("1:9", "The areas are as 1 to 9."), ("(5, 5)", "You land on (5,5)."),
        ("4:40", "It is twenty to five."),
        ("1e3", "It reads 1000."), ("5 or 7", "It is 5 or 7."), ("1200", "One thousand two hundred is the value."),
        ("red", "Reds stand out; choose them."), ("grey", "A gray fill."), ("an umbrella", "Umbrellas keep dry."),
        ("triangle", "It is triangular."), ("Maria Lopez", "Lopez was ahead."), ("yes", "So yes."), ("no", "Reply no."),
        ("BAKERY", "It reads B-A-K-E-R-Y."), ("S3", "Close S3."), ("bulb 3", "Take the third bulb."),
    ],
)  # fmt: skip
def test_other_leaks(answer, reason):
    assert "answer" in names(answer, reason, question="What is shown?")


CHOICE = "Which animal is tallest?\nA. horse\nB. giraffe\nC. cow\nD. goat"


@pytest.mark.parametrize("answer", ["B", "(B)", "giraffe", "b"])
@pytest.mark.parametrize(
    "reason",
    [
        "The answer is B.", "Choose B.", "Option (B) fits.", "Pick option b.", "The giraffe is above all.",
        "Eliminate A, C and D.", "Not A, not C, not D.", "It must be (b).", "The second choice is right.",
    ],
)  # fmt: skip
def test_a_choice_is_given_away_by_letter_text_position_or_elimination(answer, reason):
    assert "answer" in names(answer, reason, CHOICE)


def test_a_choice_at_the_end_of_a_long_question_is_read():
    long = "Each animal was measured from hoof to crown. " * 100 + CHOICE
    assert "answer" in names("B", "The giraffe is above all.", long)
    assert names("B", "Compare them from hoof to crown.", long) == ()


@pytest.mark.parametrize(
    "reason",
    [
        "Compare the heads of the horse, the giraffe, the cow and the goat.", "Is it the giraffe or the horse?",
        "Measure from point B on the fence to each head.", "Rank them from high to low, one at a time.",
    ],
)  # fmt: skip
def test_a_choice_may_be_talked_about(reason):
    assert names("B", reason, CHOICE) == ()


@pytest.mark.parametrize("answer", ["1", "2", "3"])
@pytest.mark.parametrize(
    "reason",
    [
        "First find all of them, second strike out the empty ones.", "There are two regions to compare.",
        "Step 2: check the back row. Step 3: add.", "Go through them one at a time.", "Use the formula V = 1/3 πr²h.",
        "Compare the three bars side by side.", "Split it into 3 parts.", "Work in two passes, row by row.",
    ],
)  # fmt: skip
def test_small_innocent_numbers_pass(answer, reason):
    assert names(answer, reason, "What is the value?") == ()


@pytest.mark.parametrize("answer", ["yes", "no"])
@pytest.mark.parametrize(
    "reason",
    [
        "No other bar matters.",
        "Say yes or no only after comparing.",
        "There is no trick here.",
        "Is it left or right of it?",
    ],
)
def test_ordinary_yes_and_no_pass(answer, reason):
    assert names(answer, reason, "Is the bar above the line?") == ()


@pytest.mark.parametrize(
    ("reason", "found"),
    [
        ("April stands at 75.", ("intermediate",)),
        ("The two base angles together make 140°.", ("intermediate",)),
        ("The angles sum to 180°, as in any triangle.", ()),
        ("The axis goes up in steps of 20.", ()),
        ("The question names 60: use it.", ()),
        ("Start from 2 and add.", ()),
    ],
)
def test_intermediate_numbers(reason, found):
    assert names("5", reason, "How many got more than 60 points?") == found


def test_evidence_is_asked_for_only_with_images():
    vague = {"look": "Look carefully at the picture.", "reason": "Think, then apply the right formula."}
    assert names("5", **vague) == ("no_evidence",)
    assert names("5", **vague, images=()) == ()


@pytest.mark.parametrize(
    "reason",
    [
        "3x + 10 = 70, so 3x = 60, so x = 20.", "First that makes 1. Then it makes 2. Now the total is 3. So 4.",
        "The final answer is what remains.", "Compare them. " * 200, "\\boxed{what is left}",
    ],
)  # fmt: skip
def test_full_solutions(reason):
    assert "solution" in names("99", reason)


def test_the_third_stepwise_result_makes_a_solution():
    assert "solution" not in names("99", "That makes 1. Now 2.")
    assert "solution" in names("99", "That makes 1. Now 2. So 3.")


def test_every_reason_says_what_was_found():
    verdict = check_hint(Problem("1", (), "How many?", "12"), Hint("", "There are twelve."))
    assert not verdict.ok
    assert verdict.reasons[0].startswith("answer: ")
    assert "There are twelve" in verdict.reasons[0]
    assert all(reason.partition(":")[0] in REASONS for reason in verdict.reasons)


def test_the_hints_that_the_project_makes_by_rule_all_pass():
    for problem in load_easy_vqa("train", 300):
        assert check_hint(problem, easy_vqa_hint(problem)).ok
    for region in REGIONS:
        for beginning in BEGINNINGS:
            for answer in range(beginning, beginning + 10):
                problem = Problem("1", ("a.png",), question(NAMES[0]), str(answer))
                assert check_hint(problem, hint(Rule(region, beginning))).ok


@given(st.text(max_size=80), st.text(min_size=1, max_size=30), st.text(max_size=120), st.text(max_size=200))
def test_any_text_gets_a_verdict(asked, answer, look, reason):
    verdict = check_hint(Problem("1", ("a.png",), asked, answer), Hint(look, reason))
    assert verdict.ok == (not verdict.reasons)


@pytest.mark.parametrize(
    ("piece", "answer"),
    [
        ("(", "12"), ("1+", "(1, 2)"), ("\\frac{", "3/4"), ("one hundred and ", "105"), ("yes ", "yes"),
        ("²", "4"), ("red or ", "red"), ("half of ", "0.5"), ("graph 1, ", "graph 1"), ("A. ", "A"), ("(A) x ", "B"),
        ("1, ", "(1, 2)"),
    ],
)  # fmt: skip
def test_a_hostile_megabyte_is_refused_unread(piece, answer):
    text = piece * (1_000_000 // len(piece))
    assert "solution" in check_hint(Problem("1", ("a.png",), text, answer), Hint(text, text)).names


@pytest.mark.parametrize(("part", "fewest"), [("development", 300), ("held_out", 120)])
def test_the_labelled_hints_are_many_balanced_and_distinct(part, fewest):
    labelled = load_labelled(part)
    assert len(labelled) >= fewest
    assert len({(item.problem.problem, item.hint) for item in labelled}) == len(labelled)
    assert 0.3 < sum(not item.why for item in labelled) / len(labelled) < 0.6
    assert {item.why for item in labelled} == {"", *REASONS}


@pytest.mark.parametrize("part", ["development", "held_out"])
def test_rules_agree_with_people(part):
    scores = {s.reason: s for s in score(load_labelled(part))}
    assert scores["answer"].recall >= 0.95
    assert scores["good"].rejection <= 0.05
    for reason in REASONS:
        assert scores[reason].rejection >= 0.8
        assert scores[reason].precision >= 0.9
