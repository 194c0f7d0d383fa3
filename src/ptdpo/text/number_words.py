"""Numbers written in words: twelve, twenty-one, two dozen, three quarters, six and a half, minus four."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from ptdpo.text.numbers import DECIMAL_IN_TEXT, read_decimal

_UNITS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen
"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
SMALL = {word: n for n, word in enumerate(_UNITS.split())} | {
    word: 10 * n for n, word in enumerate(_TENS.split(), start=2)
}
SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
PARTS = {
    word: n
    for n, names in {
        2: "half halves", 3: "third thirds", 4: "quarter quarters fourth fourths", 5: "fifth fifths",
        6: "sixth sixths", 7: "seventh sevenths", 8: "eighth eighths", 9: "ninth ninths", 10: "tenth tenths",
        12: "twelfth twelfths", 100: "hundredth hundredths", 1000: "thousandth thousandths",
    }.items()
    for word in names.split()
}  # fmt: skip
_LONGEST = 12
_WORD = re.compile(rf"(?P<word>[^\W\d_]+)|(?P<number>{DECIMAL_IN_TEXT})|(?P<sign>[^\s\w])")


class Spoken(Protocol):
    """A word, number or sign of a text; ``value`` is a number's, ``glued`` says that no space stands before it."""

    @property
    def low(self) -> str: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def glued(self) -> bool: ...  # noqa: D102
    @property
    def value(self) -> float | Fraction | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class _Word:
    low: str
    kind: str
    glued: bool
    value: Fraction | None


def in_words(text: str) -> Fraction | None:
    """Return the number that a whole text spells out: "forty-eight", "two thirds", "3 million"; else ``None``."""
    words: list[_Word] = []
    end = -1
    for found in _WORD.finditer(text.lower()):
        kind = str(found.lastgroup)
        value = read_decimal(found[0]) if kind == "number" else None
        words.append(_Word(found[0], kind, found.start() == end, value))
        end = found.end()
    if not words or all(word.kind != "word" for word in words):
        return None
    value, last = spoken_number(words, 0)
    if value is None and words[0].low in ("a", "an") and len(words) == 2 and words[1].low in PARTS:
        value, last = Fraction(1, PARTS[words[1].low]), 2
    return Fraction(value) if value is not None and last == len(words) else None


def spoken_number(tokens: Sequence[Spoken], start: int) -> tuple[float | Fraction | None, int]:
    """Return the value of the number that starts here and where it ends, or ``None`` and the next position."""
    if tokens[start].low == "half" and _word(tokens, start + 1) in ("a", "an"):
        if _word(tokens, start + 2) == "dozen":
            return Fraction(6), start + 3
        return Fraction(1, 2), start + 1
    value, end = _whole(tokens, start)
    if value is None:
        return None, start + 1
    part = _word(tokens, end + (_word(tokens, end) == "-"))
    if _is_part(tokens, start, value, part):
        return value / PARTS[part], end + 1 + (_word(tokens, end) == "-")
    if _word(tokens, end) == "and" and tokens[start].kind == "word":
        count, part = {"a": 1, **SMALL}.get(_word(tokens, end + 1)), _word(tokens, end + 2)
        if count and part in PARTS and part.endswith("s") == (count != 1):
            return value + Fraction(count, PARTS[part]), end + 3
    return value, end


def _is_part(tokens: Sequence[Spoken], start: int, value: float | Fraction, part: str) -> bool:
    """Tell "two thirds" and "one sixth" from "the 3 quarters": digits and articles never make a fraction."""
    if part not in PARTS or tokens[start].kind != "word":
        return False
    return part.endswith("s") == (value != 1)


def _whole(tokens: Sequence[Spoken], start: int) -> tuple[float | Fraction | None, int]:
    token = tokens[start]
    if token.kind == "number":
        scale = SCALES.get(_word(tokens, start + 1)) if token.value is not None else None
        return (token.value * scale, start + 2) if token.value is not None and scale else (None, start + 1)
    sign, position = 1, start
    if token.low in ("minus", "negative") and (_word(tokens, start + 1) in SMALL):
        sign, position = -1, start + 1
    if _word(tokens, position) == "a" and _word(tokens, position + 1) in SCALES | {"third": 0, "quarter": 0}:
        return _article(tokens, position)
    total, current, end = Fraction(0), None, position
    while end < len(tokens) and end - position < _LONGEST:
        word = tokens[end].low
        if word in SMALL and _continues(current, SMALL[word]):
            current = (current or Fraction(0)) + SMALL[word]
        elif word in SCALES and current is not None:
            current *= SCALES[word]
            if SCALES[word] >= 1000:
                total, current = total + current, Fraction(0)
        elif not _joins(tokens, end, current):
            break
        end += 1
    return (None, start + 1) if current is None else (sign * (total + current), end)


def _article(tokens: Sequence[Spoken], position: int) -> tuple[Fraction | None, int]:
    """Read "a dozen", "a hundred", "a third of"."""
    word = _word(tokens, position + 1)
    if word in SCALES:
        return Fraction(SCALES[word]), position + 2
    of = _word(tokens, position + 2) == "of"
    return (Fraction(1, PARTS[word]), position + 2) if of else (None, position + 1)


def _continues(current: Fraction | None, value: int) -> bool:
    """Tell "twenty one" and "hundred five" from "three two"."""
    return not current or (current >= 20 and value < 10 and current % 10 == 0) or current % 100 == 0


def _joins(tokens: Sequence[Spoken], position: int, current: Fraction | None) -> bool:
    """Accept the hyphen of twenty-one and the "and" of two hundred and five."""
    word, following = tokens[position].low, _word(tokens, position + 1)
    if current is None or following not in SMALL:
        return False
    if word == "-":
        return tokens[position].glued and current % 100 >= 20 and current % 10 == 0 and SMALL[following] < 10
    return word == "and" and current >= 100


def _word(tokens: Sequence[Spoken], position: int) -> str:
    return tokens[position].low if position < len(tokens) else ""
