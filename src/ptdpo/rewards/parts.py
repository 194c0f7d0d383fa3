"""Answers of several parts: tuples, intervals and their unions, sets, lists, inequalities."""

import re
from dataclasses import dataclass

from ptdpo.rewards.notation import SET_CLOSE, SET_OPEN

_OPENING, _CLOSING = f"([{SET_OPEN}", f")]{SET_CLOSE}"
_BOUND = r"([^<>=]+)"
_BELOW = re.compile(rf"{_BOUND}(<=?)([a-z])(<=?){_BOUND}")
_ONE_SIDED = re.compile(rf"([a-z])([<>]=?){_BOUND}")
_OTHER_SIDED = re.compile(rf"{_BOUND}([<>]=?)([a-z])")
_FLIP = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


@dataclass(frozen=True, slots=True)
class Parts:
    """An answer taken apart.

    Attributes:
        kind: its brackets, "" for a bare list, ";" for one with semicolons, "u" for a union.
        elements: the parts, two or more unless it is a set.
        ordered: whether the order matters.
    """

    kind: str
    elements: tuple[str, ...]
    ordered: bool


def read_parts(text: str) -> Parts | None:
    """Return a plain answer (see ``plain``) taken apart, or ``None`` if it has one part."""
    union = split_outside(text, "u") if "(" in text or "[" in text else [text]
    if len(union) > 1 and all(part and part[0] in _OPENING and part[-1] in _CLOSING for part in union):
        return Parts("u", tuple(union), ordered=False)
    if len(text) > 1 and text[0] in _OPENING and _closes_at_the_end(text):
        inside = text[1:-1]
        elements = split_outside(inside, "," if "," in inside else ";")
        is_set = text[0] == SET_OPEN
        if is_set or len(elements) > 1:
            return Parts(text[0] + text[-1], tuple(elements), ordered=not is_set)
        return None
    if ";" in text:
        return Parts(";", tuple(split_outside(text, ";")), ordered=True)
    joined = re.sub(r"\s*,?\s+(?:or|and)\s+", ",", text)
    joined = re.sub(r"±\s*([^,±]+)", r"\1,-\1", joined) if "±" in joined else joined
    elements = split_outside(joined, ",")
    if len(elements) > 1 and all(elements):
        return Parts("", tuple(elements), ordered=joined == text)
    return None


def as_interval(text: str) -> str:
    """Return an inequality in one letter, or two joined by "or", as an interval; anything else as it is."""
    alternatives = text.split(" or ")
    if len(alternatives) > 1:
        intervals = [as_interval(part.strip()) for part in alternatives]
        return "u".join(intervals) if all(part[0] in _OPENING for part in intervals if part) else text
    original, text = text, text.replace(" ", "")
    between = _BELOW.fullmatch(text)
    if between:
        low, left, _, right, high = between.groups()
        return f"{'[' if '=' in left else '('}{low},{high}{']' if '=' in right else ')'}"
    one, other = _ONE_SIDED.fullmatch(text), _OTHER_SIDED.fullmatch(text)
    if one:
        sign, bound = one[2], one[3]
    elif other:
        sign, bound = _FLIP[other[2]], other[1]
    else:
        return original
    if sign[0] == "<":
        return f"(-oo,{bound}{']' if '=' in sign else ')'}"
    return f"{'[' if '=' in sign else '('}{bound},oo)"


def split_outside(text: str, separator: str) -> list[str]:
    """Split at a one-character separator that stands outside all brackets."""
    pieces, depth, start = [], 0, 0
    for position, char in enumerate(text):
        if char in _OPENING:
            depth += 1
        elif char in _CLOSING:
            depth -= 1
        elif char == separator and depth == 0:
            pieces.append(text[start:position].strip())
            start = position + 1
    return [*pieces, text[start:].strip()]


def _closes_at_the_end(text: str) -> bool:
    depth = 0
    for position, char in enumerate(text):
        depth += (char in _OPENING) - (char in _CLOSING)
        if depth == 0:
            return position == len(text) - 1
    return False
