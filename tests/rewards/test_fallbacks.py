"""Answers outside a box: where they are found, and where none is."""

import pytest

from ptdpo.records import Answered
from ptdpo.rewards import grade, grade_many
from ptdpo.rewards.extraction import UNFINISHED
from ptdpo.rewards.fallbacks import find_answer
from tests.rewards.boxes import right


@pytest.mark.parametrize(
    ("response", "answer", "place"),
    [
        ("a \\boxed{3} b", "3", "boxed"),
        ("\\fbox{3}", "3", "boxed"),
        ("\\boxed{2} and \\boxed{3}", "2, 3", "boxed"),
        ("\\boxed{2}$ or $\\boxed{3}", "2 or 3", "boxed"),
        ("\\boxed{2}\n\n\\boxed{2}", "2", "boxed"),
        ("First \\boxed{2}, finally \\boxed{3}", "3", "boxed"),
        ("\\boxed{\\boxed{3}}", "3", "boxed"),
        ("\\boxed{3} is wrong.", "", "boxed"),
        ("\\boxed{3}, no wait, \\boxed{4", "", "boxed"),
        ("<answer> 3 </answer>", "3", "answer tag"),
        ("**Answer:** 3.", "3", "answer line"),
        ("Answer: $13$", "$13$", "answer line"),
        ("### Answer\nB", "B", "heading"),
        ("If the answer is 2, no. So the answer is 3.", "3", "the answer is"),
        ("The correct answer is B. Here's why the others fail.", "B", "the answer is"),
        ("Hence option (C) is correct", "C", "correct option"),
        ("The answer is not B.", "", ""),
        ("x</think>\n3", "3", "whole response"),
        ("As seen.\nC. 3 cm", "C. 3 cm", "last line"),
        ("As seen.\nOption C. Here is why.", "C", "last line"),
        ("The clock shows (C) 3:00.", "(C) 3:00", "last letter"),
        ("The clock shows (C) 3:00 or (D) 4:00.", "The clock shows (C) 3:00 or (D) 4:00", "whole response"),
        ("Based on the figure, ∠AED is equal to 115°.", "115°", "conclusion"),
        ("Based on the figure, ∠AED cannot be 115°.", "Based on the figure, ∠AED cannot be 115°", "whole response"),
        (
            "We count the cars. There are 4 cars left after removing the red ones.",
            "4 cars left after removing the red ones",
            "last sentence",
        ),
        ("There are 4 groups. The total is 12.", "12", "last sentence"),
        ("The board was 30 cm. It is shorter now.", "", ""),
        ("Blue. It is the largest.", "Blue", "whole response"),
        ("2x = 8\n\nx = 4", "x = 4", "named value"),
        ("B is the correct answer.", "B", "correct option"),
        ("选项B是正确答案。", "B", "answer line"),
        ('The answer is "No." It is red.', "No", "the answer is"),
        ("The answer is **(C)**, 118°.", "(C), 118°", "the answer is"),
        ("So x is **(B)**.\n\nI hope this helps! Let me know if you have other questions.", "B", "conclusion"),
        ("As seen.\n(C) 3 cm", "(C) 3 cm", "last line"),
        ("(A) 1\n(B) 2\n(C) 3", "", ""),
        ("the answer is 2</think>", "", ""),
        ("", "", ""),
        ("x" * 100, "", ""),
    ],
)
def test_where_answers_are_found(response, answer, place):
    found = find_answer(response)
    if "boxed{\\boxed" not in response:
        assert found.text == answer
    assert found.place == place


def test_a_letter_whose_sentence_gives_another_option_is_none():
    times = ("half", "quarter", "o'clock", "quarter past")
    assert grade("B. The time shown is quarter past.", "B", options=times).accuracy == 0.0
    assert grade("B. The time shown is quarter.", "B", options=times).accuracy == 1.0
    assert grade("B. The hand says so.", "B", options=times).accuracy == 1.0
    assert grade("The answer is B. 40", "B", options=("20", "30", "40")).accuracy == 0.0


def test_the_text_beside_a_letter_may_say_its_option_in_more_words():
    options = ("quarter", "o'clock", "quarter past", "False")
    for response in ("B (twelve o'clock)", "Twelve o'clock (B)", "D. False", "C, which is quarter past"):
        assert right(response, response[0] if response[0] in "BCD" else "B", *options), response
    for response in ("A (quarter past)", "B (not o'clock)", "B (quarter)", "B (o'clock or quarter)", "D. True"):
        assert not right(response, response[0], *options), response
    assert right("B) A cat", "B", "a dog", "a cat")
    assert not right("B) A dog", "B", "a dog", "a cat")


def test_fall_backs_look_at_the_last_two_thousand_characters():
    assert find_answer("The answer is 3\n" + "as said. " * 200).text == "3"
    assert find_answer("The answer is 3\n" + "as said. " * 300).text == ""


def test_a_thinking_that_never_ends_has_no_answer():
    for response in ("<think>hm \\boxed{42} and then cut off", "<think>a</think> <think> \\boxed{42}"):
        verdict = grade(response, "42")
        assert (verdict.accuracy, verdict.extracted, verdict.note) == (0.0, None, UNFINISHED)
    # The prompt may have opened it.
    items = [Answered("hm \\boxed{42} and then", "42"), Answered("hm</think> \\boxed{42}", "42")]
    assert [v.accuracy for v in grade_many(items, thinking_is_open=True)] == [0.0, 1.0]
    assert [v.note for v in grade_many(items, thinking_is_open=True)] == [UNFINISHED, ""]
    # What was boxed while thinking is no answer.
    assert grade("<think>\\boxed{42}</think> I am not sure.", "42").accuracy == 0.0
