"""Sets of solutions: intervals and their unions, inequalities in one letter, {x | x > 2}."""

import re
from dataclasses import dataclass

from ptdpo.rewards.brackets import split_outside
from ptdpo.rewards.kinds import Same
from ptdpo.text.notation import INFINITY, MEMBER, SET_CLOSE, SET_OPEN, UNION

_LETTER = r"[A-Za-zα-ω](?:_\w)?"
_MEMBER = re.compile(rf"({_LETTER})\s*{MEMBER}\s*(.+)")
_BUILDER = re.compile(rf"{SET_OPEN}\s*({_LETTER})\s*(?:{MEMBER}\s*(?:R|ℝ)\s*)?[|:]\s*(.+?)\s*{SET_CLOSE}")
_RELATION = re.compile(r"\s*([<>≤≥])\s*")
_FLIP = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}
_ALL = re.compile(r"(?:all real numbers|all reals?|R|ℝ)")
_MOST = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """An interval by its bounds, as text."""

    low: str
    closed_low: bool
    high: str
    closed_high: bool


@dataclass(frozen=True, slots=True)
class Solutions:
    """A union of intervals; ``letter`` is the unknown where one is named."""

    pieces: tuple[Piece, ...]
    letter: str = ""


def read_solutions(text: str) -> Solutions | None:
    """Return a set of real numbers; a bare "(1,2)" is none, as it may be a point."""
    solutions = read_any_solutions(text)
    if solutions is None or solutions.letter or len(solutions.pieces) > 1:
        return solutions
    is_pair = all(
        INFINITY not in piece.low + piece.high and piece.closed_low == piece.closed_high for piece in solutions.pieces
    )
    return None if is_pair else solutions


def read_any_solutions(text: str) -> Solutions | None:
    """Return a set of real numbers, also from "(1,2)" and "[1,2]"."""
    if _ALL.fullmatch(text):
        return Solutions((Piece(f"-{INFINITY}", False, INFINITY, False),))
    named = _MEMBER.fullmatch(text) or _BUILDER.fullmatch(text)
    if named:
        inside = read_any_solutions(named[2].strip())
        return None if inside is None or inside.letter not in ("", named[1]) else Solutions(inside.pieces, named[1])
    united = split_outside(text, UNION)
    if len(united) > 1:
        pieces = [_interval(part) for part in united]
        return None if len(pieces) > _MOST else _joined(pieces, "")
    interval = _interval(text)
    return Solutions((interval,)) if interval else _inequalities(text)


def same_solutions(given: str, expected: Solutions, same: Same) -> bool:
    """Return whether an answer is the same set, bounds compared as mathematics; the unknown must not be another."""
    found = read_any_solutions(given)
    if found is None or len(found.pieces) != len(expected.pieces):
        return False
    if found.letter and expected.letter and found.letter != expected.letter:
        return False
    left = list(found.pieces)
    for piece in expected.pieces:
        partner = next((one for one in left if _same_piece(one, piece, same)), None)
        if partner is None:
            return False
        left.remove(partner)
    return True


def _same_piece(given: Piece, expected: Piece, same: Same) -> bool:
    if (given.closed_low, given.closed_high) != (expected.closed_low, expected.closed_high):
        return False
    return _same_bound(given.low, expected.low, same) and _same_bound(given.high, expected.high, same)


def _same_bound(given: str, expected: str, same: Same) -> bool:
    if INFINITY in given or INFINITY in expected:
        return given.replace(" ", "") == expected.replace(" ", "")
    return same(given, expected)


def _joined(pieces: list[Piece | None], letter: str) -> Solutions | None:
    whole = tuple(piece for piece in pieces if piece is not None)
    return Solutions(whole, letter) if whole and len(whole) == len(pieces) else None


def _interval(text: str) -> Piece | None:
    text = text.strip()
    if len(text) < 5 or text[0] not in "([]" or text[-1] not in ")][":
        return None
    bounds = split_outside(text[1:-1], ",")
    if len(bounds) != 2:
        bounds = split_outside(text[1:-1], ";")
    if len(bounds) != 2 or not all(bounds) or "=" in text:
        return None
    low, high = (bound if bound != f"+{INFINITY}" else INFINITY for bound in bounds)
    return Piece(low, text[0] == "[", high, text[-1] == "]")


def _inequalities(text: str) -> Solutions | None:
    alternatives = re.split(r"\s+or\s+", text)
    if len(alternatives) > 1:
        parts = [_inequalities(part) for part in alternatives]
        letters = {part.letter for part in parts if part}
        if None in parts or len(letters) != 1 or len(parts) > _MOST:
            return None
        return Solutions(tuple(piece for part in parts if part for piece in part.pieces), letters.pop())
    both = re.split(r"\s+and\s+|\s*,\s*", text)
    if len(both) == 2:
        return _overlap(_inequalities(both[0]), _inequalities(both[1]))
    return _chain(text)


def _overlap(first: Solutions | None, second: Solutions | None) -> Solutions | None:
    """Return "x > 1 and x < 3" as one interval."""
    if first is None or second is None or first.letter != second.letter:
        return None
    if len(first.pieces) != 1 or len(second.pieces) != 1:
        return None
    one, other = first.pieces[0], second.pieces[0]
    if INFINITY in one.low:
        one, other = other, one
    if INFINITY in one.low or INFINITY not in one.high or INFINITY in other.high or INFINITY not in other.low:
        return None
    return Solutions((Piece(one.low, one.closed_low, other.high, other.closed_high),), first.letter)


def _chain(text: str) -> Solutions | None:
    parts = _RELATION.split(text)
    if len(parts) == 3:
        left, sign, right = parts
        if re.fullmatch(_LETTER, right) and not re.fullmatch(_LETTER, left):
            left, sign, right = right, _FLIP[sign], left
        if not re.fullmatch(_LETTER, left) or not _is_bound(right, left):
            return None
        if sign in ">≥":
            return Solutions((Piece(right, sign == "≥", INFINITY, False),), left)
        return Solutions((Piece(f"-{INFINITY}", False, right, sign == "≤"),), left)
    if len(parts) != 5:
        return None
    low, first, letter, second, high = parts
    if (first in "<≤") != (second in "<≤") or not re.fullmatch(_LETTER, letter):
        return None
    if first in ">≥":
        low, first, second, high = high, _FLIP[second], _FLIP[first], low
    if not _is_bound(low, letter) or not _is_bound(high, letter):
        return None
    return Solutions((Piece(low, first == "≤", high, second == "≤"),), letter)


def _is_bound(text: str, letter: str) -> bool:
    return bool(text) and not re.search(rf"(?<![A-Za-z\\]){re.escape(letter)}(?![A-Za-z])", text) and "=" not in text
