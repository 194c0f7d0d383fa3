"""Arithmetic that a hint spells out: 3 + 9, 4 × 3, 36π/6, √144, twice 6, subtract 75 from 120."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ptdpo.hints.rules.tokens import Token

UNITS: dict[str, tuple[str, float]] = {
    unit: (dimension, factor)
    for dimension, units in {
        "length": {
            "m": 1, "km": 1e3, "cm": 1e-2, "mm": 1e-3, "metre": 1, "metres": 1, "meter": 1, "meters": 1,
            "kilometres": 1e3, "kilometers": 1e3, "centimetres": 1e-2, "centimeters": 1e-2,
        },
        "mass": {"g": 1, "kg": 1e3, "mg": 1e-3, "grams": 1, "kilograms": 1e3},
        "time": {"s": 1, "ms": 1e-3, "min": 60, "h": 3600, "second": 1, "seconds": 1, "minutes": 60, "hours": 3600},
        "volume": {"l": 1, "ml": 1e-3, "litres": 1, "liters": 1},
        "current": {"a": 1, "ma": 1e-3, "amperes": 1, "ampere": 1},
        "voltage": {"v": 1, "kv": 1e3, "mv": 1e-3, "volts": 1, "volt": 1},
        "force": {"n": 1, "kn": 1e3, "newtons": 1, "newton": 1},
        "other": {"ohm": 1, "j": 1, "w": 1, "hz": 1, "degrees": 1, "degree": 1, "dollars": 1, "euros": 1},
    }.items()
    for unit, factor in units.items()
}  # fmt: skip
_OPERATORS = {"+": "+", "plus": "+", "-": "-", "minus": "-", "less": "-", "*": "*", "times": "*", "x": "*", "/": "/"}
_PREFIXES = {"twice": 2.0, "double": 2.0, "doubling": 2.0, "triple": 3.0, "half": 0.5, "halve": 0.5}
_VERBS = {
    "subtract": ("from", "-"), "take": ("from", "-"), "divide": ("by", "/"), "multiply": ("by", "*"),
    "add": ("and to", "+"), "sum": ("and", "+"), "product": ("and", "*"), "difference": ("and", "-"),
}  # fmt: skip
_MAX_TOKENS, _MAX_DEPTH, _LARGEST = 60, 12, 1e15


@dataclass(frozen=True, slots=True)
class Amount:
    """A number or an expression in a hint: its value, the tokens it spans, and how many operations it holds."""

    value: float
    first: int
    last: int
    operations: int
    percent: bool = False
    unit: str = ""


def amounts(tokens: Sequence[Token]) -> Iterator[Amount]:
    """Yield every number and every expression of numbers alone, outermost first."""
    position = 0
    while position < len(tokens):
        found = _frame(tokens, position)
        if found is not None:
            yield found
        found = _Parser(tokens, position).amount() if _begins(tokens, position) else None
        if found is None:
            position += 1
            continue
        yield found
        if found.operations:
            yield from _parts(tokens, found)
        position = found.last + 1


def _begins(tokens: Sequence[Token], position: int) -> bool:
    token = tokens[position]
    return token.value is not None or token.low in ("(", "-", "+", "pi", "sqrt", "square") or token.low in _PREFIXES


def _parts(tokens: Sequence[Token], whole: Amount) -> Iterator[Amount]:
    for position in range(whole.first, whole.last + 1):
        value = tokens[position].value
        if value is not None:
            yield _with_unit(tokens, Amount(value, position, position, 0))


def _with_unit(tokens: Sequence[Token], amount: Amount) -> Amount:
    following = tokens[amount.last + 1].low if amount.last + 1 < len(tokens) else ""
    percent = following in ("%", "percent")
    unit = following if following in UNITS else ""
    return Amount(amount.value, amount.first, amount.last, amount.operations, percent, unit)


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
    left = _Parser(tokens, start).amount() if start < len(tokens) and _begins(tokens, start) else None
    if left is None:
        return None
    joint = left.last + 1
    if joint < len(tokens) and (tokens[joint].low in UNITS or tokens[joint].low in ("%", "°")):
        joint += 1
    if joint + 1 >= len(tokens) or tokens[joint].low not in joints.split():
        return None
    right = _Parser(tokens, joint + 1).amount()
    if right is None:
        return None
    a, b = (right.value, left.value) if "from" in joints else (left.value, right.value)
    value = (a + b) / 2 if operator == "mean" else _apply(operator, a, b)
    return None if value is None else _with_unit(tokens, Amount(value, first, right.last, 1))


def _apply(operator: str, a: float, b: float) -> float | None:
    if operator == "/":
        return a / b if b else None
    if operator == "^":
        return a**b if 0 <= b <= 10 and abs(a) < 1e6 else None
    value = a + b if operator == "+" else a - b if operator == "-" else a * b
    return value if abs(value) < _LARGEST else None


class _Parser:
    """Recursive descent over a bounded window of tokens; whatever it cannot read ends the expression."""

    def __init__(self, tokens: Sequence[Token], start: int) -> None:
        self.tokens, self.start, self.at = tokens, start, start
        self.stop = min(len(tokens), start + _MAX_TOKENS)
        self.operations = 0

    def amount(self) -> Amount | None:
        """Return the longest expression that starts here, or ``None``."""
        value = self.chain("+-", 0)
        if value is None or abs(value) >= _LARGEST:
            return None
        return _with_unit(self.tokens, Amount(value, self.start, self.at - 1, self.operations))

    def look(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self.tokens[at].low if at < self.stop else ""

    def chain(self, level: str, depth: int) -> float | None:
        """Read a sum (level "+-") or a product (level "*/")."""
        inner = (lambda: self.chain("*/", depth)) if level == "+-" else (lambda: self.power(depth))
        value = inner()
        while value is not None:
            mark, operations = self.at, self.operations
            operator = self.operator(level)
            right = inner() if operator else None
            result = _apply(operator, value, right) if operator and right is not None else None
            if result is None:
                self.at, self.operations = mark, operations
                return value
            value, self.operations = result, self.operations + 1
        return None

    def operator(self, level: str) -> str:
        """Read an operator, a unit before it included; products may leave it out before pi, a root, a bracket."""
        after_unit = 1 if self.look() in UNITS or self.look() in ("°", "%", "percent") else 0
        word = self.look(after_unit)
        sign = "/" if word == "divided" and self.look(after_unit + 1) == "by" else _OPERATORS.get(word, "")
        if sign and sign in level and (word != "x" or self.is_number(after_unit + 1)):
            self.at += after_unit + (2 if word == "divided" else 1)
            return sign
        if level == "*/" and (self.look() in ("pi", "sqrt") or self.look() == "root"):
            return "*"
        if level == "*/" and self.look() == "(" and self.tokens[self.at].glued and self.tokens[self.at - 1].low != "of":
            return "*"
        if level == "*/" and self.look() in ("of", "%", "percent") and self.fraction_of():
            return "*"
        return ""

    def fraction_of(self) -> bool:
        """Read the "of" in "two thirds of 18" and "0.15 of 80"."""
        value = self.tokens[self.at - 1].value
        if self.look() == "of" and value is not None and 0 < value < 1 and self.is_number(1):
            self.at += 1
            return True
        return False

    def is_number(self, ahead: int) -> bool:
        at = self.at + ahead
        return at < self.stop and self.tokens[at].value is not None

    def power(self, depth: int) -> float | None:
        value = self.atom(depth)
        if value is None:
            return None
        if self.look() in ("squared", "cubed"):
            self.operations += 1
            exponent = 2.0 if self.look() == "squared" else 3.0
            self.at += 1
            return _apply("^", value, exponent)
        if self.look() == "^" and self.is_number(1):
            exponent = self.tokens[self.at + 1].value
            self.at, self.operations = self.at + 2, self.operations + 1
            return None if exponent is None else _apply("^", value, exponent)
        return value

    def atom(self, depth: int) -> float | None:
        word = self.look()
        if depth > _MAX_DEPTH or not word:
            return None
        value = self.tokens[self.at].value
        if value is not None:
            self.at += 1
            return value
        if word == "pi":
            self.at += 1
            return math.pi
        if word in ("-", "+"):
            self.at += 1
            inner = self.atom(depth + 1) if self.is_number(0) or self.look() in ("(", "pi") else None
            return None if inner is None else inner * (-1 if word == "-" else 1)
        if word == "(":
            return self.bracket(depth)
        return self.function(word, depth)

    def bracket(self, depth: int) -> float | None:
        self.at += 1
        value = self.chain("+-", depth + 1)
        if value is None or self.look() != ")":
            return None
        self.at += 1
        return value

    def function(self, word: str, depth: int) -> float | None:
        if word in _PREFIXES:
            self.at += 1
            self.at += self.look() == "of"
            self.at += self.look() in ("the", "a")
            inner = self.chain("*/", depth + 1) if self.look() in ("(", "sqrt", "pi") or self.is_number(0) else None
            self.operations += 1
            return None if inner is None else _PREFIXES[word] * inner
        if word == "square" and self.look(1) == "root" and self.look(2) == "of":
            self.at += 3
        elif word in ("sqrt", "root"):
            self.at += 1
        else:
            return None
        inner = self.atom(depth + 1)
        self.operations += 1
        return math.sqrt(inner) if inner is not None and inner >= 0 else None
