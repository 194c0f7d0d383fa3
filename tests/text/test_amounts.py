import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptdpo.text.amounts import amounts
from ptdpo.text.tokens import MAX_CHARACTERS, tokenise
from ptdpo.text.words import stem


def values(text):
    return [round(amount.value, 6) for amount in amounts(tokenise(text))]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("12.0", 12), ("1,200", 1200), (".5", 0.5), ("twelve", 12), ("Twenty-one", 21),
        ("one hundred and five", 105), ("one thousand two hundred", 1200), ("2 million", 2e6), ("1e3", 1000),
        ("2.5E-2", 0.025),
        ("two dozen", 24),
        ("half a dozen", 6), ("three quarters", 0.75), ("one third", 1 / 3), ("a third of", 1 / 3), ("half an", 0.5),
        ("six and a half", 6.5), ("minus four", -4), ("−4", -4), ("\\frac{3}{4}", 0.75), ("3/4", 0.75),
        ("3 + 9", 12), ("4*3", 12), ("4 \\times 3", 12), ("4 times 3", 12), ("6 x 4", 24), ("24 divided by 2", 12),
        ("2^3", 8), ("5 squared", 25), ("5²", 25), ("\\sqrt{144}", 12), ("√144", 12), ("square root of 144", 12),
        ("3^2 + 4^2", 25), ("\\sqrt{3^2+4^2}", 5), ("2(5) + 4", 14), ("(180 - 40)/2", 70), ("6\\pi", 6 * math.pi),
        ("\\frac{60}{360}\\cdot\\pi\\cdot 6^2", 6 * math.pi), ("5\\sqrt{2}", 5 * math.sqrt(2)), ("half of 110°", 55),
        ("twice 6", 12), ("double 6", 12), ("10 N / 2 kg", 5), ("0.15 of 80", 12), ("two thirds of 18", 12),
        ("subtract 75 from 120", 45), ("divide 12 by 3", 4), ("multiply 0.15 by 80", 12), ("add 5 and 3", 8),
        ("the sum of 4 and 3", 7), ("midway between 3 and 4", 3.5), ("one more than eleven", 12),
        ("one degree above the mark for 20", 21), ("half of 4 times 8", 16),
    ],
)  # fmt: skip
def test_the_first_amount_is_the_whole_expression(text, value):
    assert values(text)[0] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("text", ["S3", "H2SO4 and R1", "no numbers, none", "x + y", "the third bulb", "someone"])
def test_labels_ordinals_and_plain_words_are_no_amounts(text):
    assert values(text) == []


@pytest.mark.parametrize("text", ["1/0", "9^9999", "0 divided by 0", "((((", "sqrt", "-", "half of", "9" * 400, "²²²"])
def test_what_cannot_be_computed_is_left_alone(text):
    assert all(math.isfinite(value) for value in values(text))


@given(st.integers(0, 9999), st.sampled_from(["{:d}", "{:d}.0", "{:,d}", "${:d}$", "about {:d} km", "({:d})"]))
def test_every_whole_number_is_read_in_every_dress(number, dress):
    assert number in values(dress.format(number))


@given(st.text(max_size=300))
def test_any_text_can_be_read(text):
    assert all(math.isfinite(amount.value) for amount in amounts(tokenise(text)))


def test_a_hint_is_read_up_to_a_limit():
    assert len(tokenise("a " * 10 * MAX_CHARACTERS)) <= MAX_CHARACTERS


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("triangles", "triangle"), ("triangular", "triangle"), ("rectangular", "rectangle"), ("grey", "gray"),
        ("wooden", "wood"), ("leaves", "leaf"), ("Umbrellas", "umbrella"), ("crossing", "cross"), ("boxes", "box"),
    ],
)  # fmt: skip
def test_forms_of_a_word_share_a_stem(one, other):
    assert stem(one) == stem(other)
