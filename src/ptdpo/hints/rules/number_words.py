"""Numbers written in words: twelve, twenty-one, two dozen, three quarters, six and a half, minus four."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptdpo.hints.rules.tokens import Token

_UNITS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen
"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
SMALL = {word: float(n) for n, word in enumerate(_UNITS.split())} | {
    word: 10.0 * n for n, word in enumerate(_TENS.split(), start=2)
}
_SCALES = {"hundred": 100.0, "thousand": 1e3, "million": 1e6, "billion": 1e9, "dozen": 12.0}
_PARTS = {
    word: float(n)
    for n, names in {
        2: "half halves", 3: "third thirds", 4: "quarter quarters fourth fourths", 5: "fifth fifths",
        6: "sixth sixths", 7: "seventh sevenths", 8: "eighth eighths", 9: "ninth ninths", 10: "tenth tenths",
        12: "twelfth twelfths", 100: "hundredth hundredths",
    }.items()
    for word in names.split()
}  # fmt: skip
_LONGEST = 12


def read_number_words(tokens: Sequence[Token]) -> list[Token]:
    """Return the tokens with each number in words folded into one number token."""
    folded: list[Token] = []
    position = 0
    while position < len(tokens):
        value, end = _read(tokens, position)
        if value is None:
            folded.append(tokens[position])
        else:
            text = " ".join(token.text for token in tokens[position:end])
            spelled = tokens[position].kind == "word"
            folded.append(
                replace(tokens[position], text=text, low=text.lower(), kind="number", value=value, spelled=spelled)
            )
        position = end
    return folded


def _read(tokens: Sequence[Token], start: int) -> tuple[float | None, int]:
    """Return the value of the number that starts here and where it ends, or ``None`` and the next position."""
    if tokens[start].low == "half" and _word(tokens, start + 1) in ("a", "an"):
        if _word(tokens, start + 2) == "dozen":
            return 6.0, start + 3
        return 0.5, start + 1
    value, end = _whole(tokens, start)
    if value is None:
        return None, start + 1
    part = _word(tokens, end + (_word(tokens, end) == "-"))
    if _is_part(tokens, start, value, part):
        return value / _PARTS[part], end + 1 + (_word(tokens, end) == "-")
    if _word(tokens, end) == "and" and _word(tokens, end + 1) in ("a", "one") and _word(tokens, end + 2) == "half":
        return value + 0.5, end + 3
    return value, end


def _is_part(tokens: Sequence[Token], start: int, value: float, part: str) -> bool:
    """Tell "two thirds" and "one sixth" from "the 3 quarters": digits and articles never make a fraction."""
    if part not in _PARTS or tokens[start].kind != "word":
        return False
    return part.endswith("s") == (value != 1)


def _whole(tokens: Sequence[Token], start: int) -> tuple[float | None, int]:
    token = tokens[start]
    if token.kind == "number":
        scale = _SCALES.get(_word(tokens, start + 1)) if token.value is not None else None
        return (token.value * scale, start + 2) if token.value is not None and scale else (None, start + 1)
    sign, position = 1.0, start
    if token.low in ("minus", "negative") and (_word(tokens, start + 1) in SMALL):
        sign, position = -1.0, start + 1
    if _word(tokens, position) == "a" and _word(tokens, position + 1) in _SCALES | {"third": 0, "quarter": 0}:
        return _article(tokens, position)
    total, current, end = 0.0, None, position
    while end < len(tokens) and end - position < _LONGEST:
        word = tokens[end].low
        if word in SMALL and _continues(current, SMALL[word]):
            current = (current or 0.0) + SMALL[word]
        elif word in _SCALES and current is not None:
            current *= _SCALES[word]
            if _SCALES[word] >= 1e3:
                total, current = total + current, 0.0
        elif not _joins(tokens, end, current):
            break
        end += 1
    return (None, start + 1) if current is None else (sign * (total + current), end)


def _article(tokens: Sequence[Token], position: int) -> tuple[float | None, int]:
    """Read "a dozen", "a hundred", "a third of"."""
    word = _word(tokens, position + 1)
    if word in _SCALES:
        return _SCALES[word], position + 2
    of = _word(tokens, position + 2) == "of"
    return (1 / _PARTS[word], position + 2) if of else (None, position + 1)


def _continues(current: float | None, value: float) -> bool:
    """Tell "twenty one" and "hundred five" from "three two"."""
    return not current or (current >= 20 and value < 10 and current % 10 == 0) or current % 100 == 0


def _joins(tokens: Sequence[Token], position: int, current: float | None) -> bool:
    """Accept the hyphen of twenty-one and the "and" of two hundred and five."""
    word, following = tokens[position].low, _word(tokens, position + 1)
    if current is None or following not in SMALL:
        return False
    if word == "-":
        return tokens[position].glued and 20 <= current < 100 and current % 10 == 0 and SMALL[following] < 10
    return word == "and" and current >= 100


def _word(tokens: Sequence[Token], position: int) -> str:
    return tokens[position].low if position < len(tokens) else ""
