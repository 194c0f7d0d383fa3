from ptdpo.evaluate.grading import grade_answers
from ptdpo.evaluate.settings import Grading
from ptdpo.evaluate.store import UngradedResponse
from ptdpo.records import Problem

PROBLEMS = {
    "a": Problem("a", (), "1?", "1/2"),
    "b": Problem("b", (), "Which? Choices: (A) 10 (B) 30 (C) 50", "B"),
}


def graded(key, response, **settings):
    (one,) = grade_answers([UngradedResponse(key, 0, response, 3, False)], PROBLEMS, Grading(**settings))
    return one


def test_the_mode_decides():
    assert graded("a", "it is 0.5", mode="mathruler").accuracy == 0.0
    assert graded("a", "the answer is 0.5", mode="sound").accuracy == 1.0
    assert graded("a", "\\boxed{0.5}", mode="sound").accuracy == 1.0


def test_the_options_of_the_question_are_known_to_the_grader():
    assert graded("b", "\\boxed{30}", mode="sound").accuracy == 1.0
    assert graded("b", "\\boxed{10}", mode="sound").accuracy == 0.0


def test_a_second_opinion_is_kept_beside_the_verdict():
    assert graded("a", "\\boxed{0.5}", mode="sound").second is None
    assert graded("a", "\\boxed{0.5}", mode="sound", second_opinion=True).second == 1.0


def test_a_response_that_no_file_could_hold_is_made_fit():
    assert graded("a", "x \ud800 \\boxed{\udfff}").response == "x ? \\boxed{?}"
