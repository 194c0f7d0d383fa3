"""Several parts in one answer: points and vectors, sets, lists, matrices."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ptdpo.rewards.brackets import encloses_all, split_outside
from ptdpo.rewards.kinds import Same
from ptdpo.rewards.solutions import Solutions, read_any_solutions, same_solutions
from ptdpo.text.notation import (
    DETERMINANT_CLOSE,
    DETERMINANT_OPEN,
    EMPTY_SET,
    MATRIX_CLOSE,
    MATRIX_OPEN,
    MEMBER,
    ROW_END,
    SET_OPEN,
)

_POINT_NAME = re.compile(r"(\([a-z](?:,\s*[a-z])+\)(?=\s*=)|[A-Z]'?|[⃗‾]?\s*[A-Za-z]{1,2})\s*=?\s*(?=[(\[])")
_NAMED = re.compile(r"([A-Za-zα-ω](?:'|_\w+)?)\s*=\s*(.+)")
_JOINT = re.compile(r"\s*,?\s+(?:and|or)\s+|\s*&\s*|\s*∨\s*")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_GROUPED = re.compile(r"-?\d{1,3}(?:[ ,]\d{3})+")
_MOST = 12


@dataclass(frozen=True, slots=True)
class Tuple:
    """A point, a vector, an ordered list in brackets."""

    name: str
    brackets: str
    parts: tuple[str, ...]
    text: str


def read_tuple(text: str) -> Tuple | None:
    """Return "(3,-4)", "A(2,6)", "[1,2,3]" taken apart."""
    named = _POINT_NAME.match(text)
    name, text = (named[1].strip("⃗‾ "), text[named.end() :]) if named else ("", text)
    if not encloses_all(text) or text[0] not in "([":
        return None
    parts = split_outside(text[1:-1], ",")
    parts = split_outside(text[1:-1], ";") if len(parts) < 2 else parts
    return Tuple(name, text[0] + text[-1], tuple(parts), text) if 2 <= len(parts) <= _MOST and all(parts) else None


def same_tuple(given: str, expected: Tuple, same: Same) -> bool:
    """Return whether an answer has the same parts in the same order and brackets; "1 < x < 2" is (1,2)."""
    pair = expected.brackets in ("()", "[]") and len(expected.parts) == 2 and not expected.name
    if pair and re.search(r"[<>≤≥]|∈", given):
        solutions = read_any_solutions(expected.text)
        return isinstance(solutions, Solutions) and same_solutions(given, solutions, same)
    found = read_tuple(given)
    if found is None and len(expected.parts) > 2 and expected.brackets == "[]":
        listed = read_list(given)
        return listed is not None and _in_order(listed.parts, expected.parts, same)
    if found is None:
        named = [_NAMED.fullmatch(part) for part in split_outside(_JOINT.sub(",", given), ",")]
        if len(named) != len(expected.parts) or "".join(part[1] if part else "?" for part in named) not in (
            "xy",
            "xyz",
        ):
            return False
        return expected.brackets == "()" and all(
            same(part[2], wanted) for part, wanted in zip(named, expected.parts, strict=True) if part
        )
    # With three parts or more, brackets of either shape make a list, no interval.
    alike = found.brackets == expected.brackets or (
        len(expected.parts) > 2 and {found.brackets, expected.brackets} == {"()", "[]"}
    )
    if (found.name and expected.name and found.name != expected.name) or not alike:
        return False
    return _in_order(found.parts, expected.parts, same)


def read_set(text: str) -> tuple[str, ...] | None:
    """Return the elements of a set in braces; none of the empty one."""
    if text in (EMPTY_SET, "empty set", "the empty set"):
        return ()
    if not (encloses_all(text) and text[0] == SET_OPEN):
        return None
    parts = split_outside(text[1:-1], ",")
    parts = split_outside(text[1:-1], ";") if len(parts) < 2 else parts
    return tuple(parts) if len(parts) <= _MOST and all(parts) else None


def same_set(given: str, expected: tuple[str, ...], same: Same) -> bool:
    """Return whether an answer has the same elements in any order."""
    named = re.match(rf"(?:[A-Z]\s*=|[a-z]\s*{MEMBER})\s*(?={SET_OPEN})", given)
    given = given[named.end() :] if named else given
    listed = read_list(given) if len(expected) > 1 else None
    found = listed.parts if listed else read_set(given)
    return found is not None and _in_any_order(found, expected, same)


@dataclass(frozen=True, slots=True)
class Listed:
    """A bare list.

    Attributes:
        parts: its elements, names of values taken off.
        names: of the values, "" where there is none.
        free: alternatives, whose order means nothing.
        joint: "and" or "or" between conditions; "" otherwise.
    """

    parts: tuple[str, ...]
    names: tuple[str, ...]
    free: bool
    joint: str = ""


def read_list(text: str) -> Listed | None:
    """Return "1, 3, 9", "x = 2 or x = -5", "±4", "a = 2, b = 7", "2 5 8" taken apart; "12,600" is a number."""
    if _GROUPED.fullmatch(text) or (encloses_all(text) and "±" not in text):
        return None
    free = bool(re.search(r"\s(?:or|and)\s|&|±", text))
    joined = _JOINT.sub(",", text)
    parts = split_outside(joined, ",")
    if len(parts) < 2:
        parts = split_outside(joined, ";")
    parts = [part.replace("±", sign) for part in parts for sign in ("+-" if "±" in part else "±")]
    if len(parts) < 2 and re.fullmatch(r"-?\d+(?:\.\d+)?(?: -?\d+(?:\.\d+)?)+", text):
        parts = text.split()
    if not 2 <= len(parts) <= _MOST or not all(parts):
        return None
    named = [_NAMED.fullmatch(part) for part in parts]
    names = [found[1] if found else "" for found in named]
    if names[0] and not any(names[1:]):
        # "x = -5, 2" names both.
        names = [names[0]] * len(names)
    bases = {re.sub(r"_\w+$", "", name) for name in names}
    # Points are the solutions of something, in any order.
    free = free or all(encloses_all(part) for part in parts)
    return Listed(
        tuple(found[2] if found else part for found, part in zip(named, parts, strict=True)),
        tuple(names),
        free or (len(bases) == 1 and bases != {""}),
        "".join(re.findall(r"\s(or|and)\s", text)[:1]) if re.search("[<>≤≥≠]", text) else "",
    )


def same_list(given: str, expected: Listed, same: Same) -> bool:
    """Return whether an answer lists the same: in order, but for alternatives and named values."""
    member = re.match(rf"([A-Za-zα-ω])\s*{MEMBER}\s*(?={SET_OPEN})", given)
    if member and set(expected.names) - {member[1]}:
        return False
    elements = read_set(given[member.end() :] if member else given)
    if elements is not None:
        together = _in_any_order if expected.free else _in_order
        # "x = 3 or x = -4" is a set; "a = 3, b = -4" is none.
        return len(set(expected.names)) == 1 and together(elements, expected.parts, same)
    found = read_list(given)
    if found is None or len(found.parts) != len(expected.parts):
        return False
    if "" not in (found.joint, expected.joint) and found.joint != expected.joint:
        return False
    names, wanted = set(found.names) - {""}, set(expected.names) - {""}
    if len(wanted) > 1 and len({re.sub(r"_\w+$", "", name) for name in wanted}) > 1:
        pairs, asked = (
            dict(zip(found.names, found.parts, strict=True)),
            zip(expected.names, expected.parts, strict=True),
        )
        return names == wanted and all(same(pairs[name], part) for name, part in asked)
    if names and wanted and {re.sub(r"_\w+$", "", n) for n in names} != {re.sub(r"_\w+$", "", n) for n in wanted}:
        return False
    several = not wanted and len({re.sub(r"_\w+$", "", n) for n in names}) > 1
    # "a = 12, b = 8" does for "12, 8", and "b = 12, a = 8" may not.
    if several and (expected.free or list(found.names) != sorted(names)):
        return False
    if expected.free:
        return _in_any_order(found.parts, expected.parts, same)
    return _in_order(found.parts, expected.parts, same)


@dataclass(frozen=True, slots=True)
class Matrix:
    """The entries of a matrix or a determinant, row by row."""

    rows: tuple[tuple[str, ...], ...]
    determinant: bool


def read_matrix(text: str) -> Matrix | None:
    """Return a matrix in any brackets, or as [[1,2],[3,4]]."""
    while encloses_all(text) and text[0] in "([" and text[1:2] == MATRIX_OPEN:
        text = text[1:-1].strip()
    if text.startswith("[[") and encloses_all(text):
        rows = split_outside(text[1:-1], ",")
        if all(encloses_all(row) and row[0] == "[" for row in rows):
            return Matrix(tuple(tuple(split_outside(row[1:-1], ",")) for row in rows), determinant=False)
    if not encloses_all(text) or text[0] + text[-1] not in (
        MATRIX_OPEN + MATRIX_CLOSE,
        DETERMINANT_OPEN + DETERMINANT_CLOSE,
    ):
        return None
    lines = [line.strip() for line in split_outside(text[1:-1], ROW_END)]
    rows = tuple(tuple(split_outside(line, "&")) for line in lines if line)
    return Matrix(rows, text[0] == DETERMINANT_OPEN) if rows else None


def same_matrix(given: str, expected: Matrix, same: Same) -> bool:
    """Return whether an answer has the same shape and entries."""
    found = read_matrix(given)
    if found is None or found.determinant != expected.determinant or len(found.rows) != len(expected.rows):
        return False
    return all(_in_order(ours, theirs, same) for ours, theirs in zip(found.rows, expected.rows, strict=True))


def _in_order(given: Sequence[str], expected: Sequence[str], same: Same) -> bool:
    return len(given) == len(expected) and all(same(*pair) for pair in zip(given, expected, strict=True))


def _in_any_order(given: Sequence[str], expected: Sequence[str], same: Same) -> bool:
    left = list(given)
    if len(left) != len(expected):
        return False
    for part in expected:
        partner = next((one for one in left if same(one, part)), None)
        if partner is None:
            return False
        left.remove(partner)
    return True
