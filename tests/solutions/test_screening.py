"""Words that only someone with the answer in hand writes, and ordinary reasoning that resembles them."""

import pytest

from ptdpo.solutions.screening import shows_given_answer

SHOWS = [
    "The given answer is 7, so let me find a way there.",
    "This matches the known answer.",
    "Since the final answer is already known, I check it.",
    "The provided final answer is B.",
    "We are told that the answer is 12, so the height must be 3.",
    "I know the correct answer is 12.",
    "That agrees with the reference solution.",
    "It is consistent with the ground truth.",
    "Working backwards from 12, the side is 4.",
    "Let me reverse-engineer the steps.",
    "I should write as if I did not know it.",
    "I must reason without mentioning that the answer was available.",
    "The user has given me the result.",
    "According to the prompt, I should end with 7.",
    "The note says that it is 7.",
    "Good, that matches the answer.",
    "The expected answer is an integer, 7.",
    "The answer was provided, so I only need steps.",
    "I pretend to derive it.",
    "The answer is 7. Now the picture: there are bars.",
    "<think>\nSo the final answer should be 7, let me see why.\nThe bars are blue.",
]
ORDINARY = [
    "Looking at the bars, the blue one is highest. So the answer is 7.",
    "The given answer choices are A, B, C and D. Only one fits the picture.",
    "Among the given answer options, B fits.",
    "I count the circles: one, two, three. The correct answer is B.",
    "The length is given by the Pythagorean theorem. It is 7.",
    "We know the sum of the angles. Therefore x is 7.",
    "We are given that AB is 7. The answer follows from similarity.",
    "The answer is given by the difference of the two heights.",
    "Let me check: 3 + 4 is 7, which matches the total in the table.",
    "Three and four are drawn. The result is 7, and it agrees with the axis.",
    "Going back to the picture, I see a second bar.",
    "The known side is 7, the known angle 30 degrees.",
    "What is asked for is the answer to 3 + 4. That is 7.",
]


@pytest.mark.parametrize("text", SHOWS)
def test_what_shows_it_is_found(text):
    assert shows_given_answer(text, "7")


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_reasoning_passes(text):
    assert shows_given_answer(text, "7") is None
