"""Arithmetic that a hint spells out: 3 + 9, 4 × 3, 36π/6, √144, twice 6, subtract 75 from 120."""

from collections.abc import Iterator, Sequence

from ptdpo.text.arithmetic import Amount, Parser, apply, begins, with_unit
from ptdpo.text.tokens import Token
from ptdpo.text.units import units_in_text

_VERBS = {
    "subtract": ("from", "-"), "take": ("from", "-"), "divide": ("by", "/"), "multiply": ("by", "*"),
    "add": ("and to", "+"), "sum": ("and", "+"), "product": ("and", "*"), "difference": ("and", "-"),
}  # fmt: skip


def amounts(tokens: Sequence[Token]) -> Iterator[Amount]:
    """Yield every number and every expression of numbers alone, outermost first."""
    position = 0
    while position < len(tokens):
        found = _frame(tokens, position)
        if found is not None:
            yield found
        found = Parser(tokens, position).amount() if begins(tokens, position) else None
        if found is None:
            position += 1
            continue
        yield found
        if found.operations:
            yield from _parts(tokens, found)
        position = found.last + 1


def _parts(tokens: Sequence[Token], whole: Amount) -> Iterator[Amount]:
    for position in range(whole.first, whole.last + 1):
        value = tokens[position].value
        if value is not None:
            yield with_unit(tokens, Amount(value, position, position, 0))


def _frame(tokens: Sequence[Token], position: int) -> Amount | None:
    """Read "subtract 75 from 120", "the sum of 4 and 3", "midway between 3 and 4", "one more than 11"."""
    word = tokens[position].low
    if word in ("between", "of") and position and tokens[position - 1].low in ("midway", "halfway", "mean", "average"):
        return _pair(tokens, position, position + 1, "and", "mean")
    if word in _VERBS:
        joints, operator = _VERBS[word]
        start = position + 1
        while start < len(tokens) and start < position + 3 and tokens[start].value is None:
            start += 1
        return _pair(tokens, position, start, joints, operator)
    if tokens[position].value is not None:
        return _offset(tokens, position)
    return None


def _offset(tokens: Sequence[Token], position: int) -> Amount | None:
    """Read "one more than 11" and "2 degrees below the mark for 20"."""
    for sign_at in range(position + 1, min(position + 3, len(tokens))):
        sign = {"more": 1, "above": 1, "over": 1, "less": -1, "fewer": -1, "below": -1}.get(tokens[sign_at].low)
        if sign is None:
            continue
        for other in range(sign_at + 1, min(sign_at + 6, len(tokens))):
            second, first = tokens[other].value, tokens[position].value
            if tokens[other].sentence != tokens[position].sentence:
                return None
            if second is not None and first is not None:
                return Amount(second + sign * first, position, other, 1)
    return None


def _pair(tokens: Sequence[Token], first: int, start: int, joints: str, operator: str) -> Amount | None:
    left = Parser(tokens, start).amount() if start < len(tokens) and begins(tokens, start) else None
    if left is None:
        return None
    joint = left.last + 1
    if joint < len(tokens) and (tokens[joint].low in units_in_text() or tokens[joint].low in ("%", "°")):
        joint += 1
    if joint + 1 >= len(tokens) or tokens[joint].low not in joints.split():
        return None
    right = Parser(tokens, joint + 1).amount()
    if right is None:
        return None
    a, b = (right.value, left.value) if "from" in joints else (left.value, right.value)
    value = (a + b) / 2 if operator == "mean" else apply(operator, a, b)
    return None if value is None else with_unit(tokens, Amount(value, first, right.last, 1))
