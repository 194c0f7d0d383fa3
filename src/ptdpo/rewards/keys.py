"""What answers that mean the same have in common, for counting them: votes, guesses."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from ptdpo.rewards.choices import letters_of, split_label
from ptdpo.rewards.compare import cleaned
from ptdpo.rewards.quantities import Quantity, read_quantity
from ptdpo.rewards.values import as_real, scaled
from ptdpo.rewards.wording import literal
from ptdpo.text import MAX_ANSWER
from ptdpo.text.units import Dimension

# More than any difference between two spellings of a number, fewer than the digits of a value.
_DIGITS = 40


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """What answers that mean the same share: letters, a number with its unit, or a text.

    Attributes:
        kind: which of these.
        value: the letters, the text, or the number: a fraction where it is rational, else its digits.
        unit: of a number: what its unit measures, and what is counted.
    """

    kind: Literal["letters", "number", "text"]
    value: frozenset[str] | Fraction | str
    unit: tuple[Dimension, str] = ((), "")


def answer_key(answer: str) -> AnswerKey | None:
    """Return a key that answers of the same number, letter or text share; ``None`` if nothing matches the answer.

    Coarser than grading in case, finer in notation: expressions and lists are alike only as text.
    """
    if len(answer) > MAX_ANSWER:
        return None
    text = cleaned(answer)
    letter, _ = split_label(text, is_choice=True)
    letters = letters_of(text) or frozenset({letter} - {""})
    if letters:
        return AnswerKey("letters", letters)
    quantity = read_quantity(text)
    if quantity is not None:
        return _of_number(quantity)
    return AnswerKey("text", literal(text).lower()) if text else None


def answers_match(given: str, expected: str) -> bool:
    """Return whether two answers have the same key."""
    key = answer_key(given)
    return key is not None and key == answer_key(expected)


def _of_number(quantity: Quantity) -> AnswerKey:
    number, unit = quantity.number, quantity.unit
    if unit is not None:
        number = scaled(number, unit.size)
        if quantity.is_share or unit.dimension == (("°", 1),):
            unit = None
    value = number if isinstance(number, Fraction) else str(as_real(number))[:_DIGITS]
    return AnswerKey("number", value, (unit.dimension if unit else (), quantity.counted))
