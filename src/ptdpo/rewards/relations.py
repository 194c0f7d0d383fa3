"""Equations and inequalities in several letters: equal up to a factor, with the sides in any order."""

import re
from dataclasses import dataclass

from ptdpo.rewards.expressions import Node, read_expression
from ptdpo.rewards.kinds import Same
from ptdpo.rewards.quantities import read_quantity
from ptdpo.rewards.values import is_zero, ratio_of, same_value, sign_of, values_at_points
from ptdpo.text.notation import squeezed

_SIGN = re.compile(r"\s*([=<>≤≥≠])\s*")
_DENIED = re.compile(r"\b(?:not|never|no|if|unless|wrong|false)\b", re.IGNORECASE)
_FLIP = {"=": "=", "≠": "≠", "<": ">", ">": "<", "≤": "≥", "≥": "≤"}
# What a value may be the value of.
_NAME = re.compile(
    r"(?:m ?)?∠\s*\w{1,4}|(?:the )?(?:m ?)?(?:[∠△⃗‾]\s*)?(?:[A-Za-zα-ωΑ-Ω][A-Za-z '_0-9]*|\|[A-Z]{1,2}\|)"
    r"(?:\([A-Za-z0-9, ]{1,8}\))?(?:_\([^()]*\))?"
)


@dataclass(frozen=True, slots=True)
class Relation:
    """Two sides and the sign between them."""

    left: str
    sign: str
    right: str


def read_relation(text: str) -> Relation | None:
    """Return a text with one sign of relation, taken apart."""
    parts = _SIGN.split(text)
    return Relation(parts[0], parts[1], parts[2]) if len(parts) == 3 and parts[0] and parts[2] else None


def same_relation(given: str, expected: Relation, same: Same) -> bool:
    """Return whether an answer states the same; "7" does for "x = 7", "y = 7" does not."""
    found = read_relation(given)
    if found is None:
        return expected.sign == "=" and is_value_of_name(expected) and same(given, expected.right)
    if found.sign == expected.sign and _same_side(found.left, expected.left):
        return same(found.right, expected.right) or _same_difference(found, expected)
    if found.sign == _FLIP[expected.sign] and _same_side(found.left, expected.right):
        return same(found.right, expected.left)
    if found.sign == _FLIP[expected.sign] and _same_side(found.right, expected.left):
        return same(found.left, expected.right)
    return _same_difference(found, expected)


def is_value_of_name(relation: Relation) -> bool:
    """Return whether it says that something has a value: x = 7, ∠ABC = 130°, y = 3x - 2; not AB = CD."""
    if relation.sign != "=" or not _NAME.fullmatch(relation.left) or _DENIED.search(relation.left):
        return False
    value = read_expression(relation.right)
    # "f(x)" is named f, whatever it is a function of.
    letter = read_expression(re.sub(r"(?<=[A-Za-z])\([^()]*\)$", "", relation.left))
    if value is not None and letter is not None and letter.symbols() & value.symbols():
        return False
    if value is not None and value.operation in ("symbol",):
        return False
    return value is not None or read_quantity(relation.right) is not None or relation.right[:1] in "([⟦⦃"


def without_name(text: str) -> str:
    """Return what is said to be the value: "5" of "x = 5" and of "2 + 3 = 5"; anything else as it is."""
    parts = _SIGN.split(text)
    if len(parts) < 3 or any(sign != "=" for sign in parts[1::2]):
        return text
    if len(parts) == 3 and is_value_of_name(Relation(*parts)):
        return parts[2]
    if (
        read_quantity(parts[0]) is None
        and len(parts) > 3
        and _NAME.fullmatch(parts[0])
        and not _DENIED.search(parts[0])
    ):
        # "Total = 60 + 60 = 120".
        parts = parts[2:]
    values = [read_quantity(part) for part in parts[::2]]
    known = [value.number for value in values if value is not None]
    return parts[-1] if len(known) == len(values) and all(same_value(known[0], one) for one in known) else text


def _same_side(given: str, expected: str) -> bool:
    def bare(text: str) -> str:
        return re.sub(r"^(?:the|m(?=∠))", "", squeezed(text)).replace("∠", "")

    return bare(given) == bare(expected)


def _same_difference(given: Relation, expected: Relation) -> bool:
    """Compare left minus right: equal up to a factor, which must be positive where the sign has a direction."""
    first, second = _difference(given), _difference(expected)
    if first is None or second is None or first.symbols() != second.symbols() or not first.symbols():
        return False
    ratios = []
    for one, other in values_at_points(first, second):
        if is_zero(one) or is_zero(other):
            return False
        ratios.append(ratio_of(one, other))
    if len(ratios) < 3 or not all(same_value(ratio, ratios[0]) for ratio in ratios):
        return False
    if given.sign == expected.sign and given.sign in "=≠":
        return True
    wanted = expected.sign if sign_of(ratios[0]) > 0 else _FLIP[expected.sign]
    return sign_of(ratios[0]) != 0 and given.sign == wanted


def _difference(relation: Relation) -> Node | None:
    left, right = read_expression(relation.left), read_expression(relation.right)
    return None if left is None or right is None else Node("+", (left, Node("neg", (right,))))
