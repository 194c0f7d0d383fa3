"""Numbers and signs, read as arithmetic: precedence, brackets, roots, powers, and their spoken forms."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ptdpo.text.tokens import Token
from ptdpo.text.units import units_in_text

_OPERATORS = {"+": "+", "plus": "+", "-": "-", "minus": "-", "less": "-", "*": "*", "times": "*", "x": "*", "/": "/"}
_PREFIXES = {"twice": 2.0, "double": 2.0, "doubling": 2.0, "triple": 3.0, "half": 0.5, "halve": 0.5}
_MAX_TOKENS, _MAX_DEPTH, _LARGEST = 60, 6, 1e15


@dataclass(frozen=True, slots=True)
class Amount:
    """A number or an expression in a hint: its value, the tokens it spans, and how many operations it holds."""

    value: float
    first: int
    last: int
    operations: int
    percent: bool = False
    unit: str = ""


def begins(tokens: Sequence[Token], position: int) -> bool:
    """Return whether an expression may begin with a token."""
    token = tokens[position]
    return token.value is not None or token.low in ("(", "-", "+", "pi", "sqrt", "square") or token.low in _PREFIXES


def with_unit(tokens: Sequence[Token], amount: Amount) -> Amount:
    """Return the amount with the unit or per cent sign that follows it."""
    following = tokens[amount.last + 1].low if amount.last + 1 < len(tokens) else ""
    percent = following in ("%", "percent")
    unit = following if following in units_in_text() else ""
    return Amount(amount.value, amount.first, amount.last, amount.operations, percent, unit)


def apply(operator: str, a: float, b: float) -> float | None:
    """Return the result of one operation, or ``None`` if there is none or it is out of bounds."""
    if operator == "/":
        return a / b if b else None
    if operator == "^":
        return a**b if 0 <= b <= 10 and abs(a) < 1e6 else None
    value = a + b if operator == "+" else a - b if operator == "-" else a * b
    return value if abs(value) < _LARGEST else None


class Parser:
    """Recursive descent over a bounded window of tokens; whatever it cannot read ends the expression."""

    def __init__(self, tokens: Sequence[Token], start: int) -> None:
        self.tokens, self.start, self.at = tokens, start, start
        self.stop = min(len(tokens), start + _MAX_TOKENS)
        self.operations = 0

    def amount(self) -> Amount | None:
        """Return the longest expression that starts here, or ``None``."""
        value = self._chain("+-", 0)
        if value is None or abs(value) >= _LARGEST:
            return None
        return with_unit(self.tokens, Amount(value, self.start, self.at - 1, self.operations))

    def _look(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self.tokens[at].low if at < self.stop else ""

    def _chain(self, level: str, depth: int) -> float | None:
        """Read a sum (level "+-") or a product (level "*/")."""
        inner = (lambda: self._chain("*/", depth)) if level == "+-" else (lambda: self._power(depth))
        value = inner()
        while value is not None:
            mark, operations = self.at, self.operations
            operator = self._operator(level)
            right = inner() if operator else None
            result = apply(operator, value, right) if operator and right is not None else None
            if result is None:
                self.at, self.operations = mark, operations
                return value
            value, self.operations = result, self.operations + 1
        return None

    def _operator(self, level: str) -> str:
        """Read an operator, a unit before it included; products may leave it out before pi, a root, a bracket."""
        after_unit = 1 if self._look() in units_in_text() or self._look() in ("°", "%", "percent") else 0
        word = self._look(after_unit)
        sign = "/" if word == "divided" and self._look(after_unit + 1) == "by" else _OPERATORS.get(word, "")
        if sign and sign in level and (word != "x" or self._is_number(after_unit + 1)):
            self.at += after_unit + (2 if word == "divided" else 1)
            return sign
        if level == "*/" and self._look() in ("pi", "sqrt", "root"):
            return "*"
        if (
            level == "*/"
            and self._look() == "("
            and self.tokens[self.at].glued
            and self.tokens[self.at - 1].low != "of"
        ):
            return "*"
        if level == "*/" and self._look() in ("of", "%", "percent") and self._fraction_of():
            return "*"
        return ""

    def _fraction_of(self) -> bool:
        """Read the "of" in "two thirds of 18" and "0.15 of 80"."""
        value = self.tokens[self.at - 1].value
        if self._look() == "of" and value is not None and 0 < value < 1 and self._is_number(1):
            self.at += 1
            return True
        return False

    def _is_number(self, ahead: int) -> bool:
        at = self.at + ahead
        return at < self.stop and self.tokens[at].value is not None

    def _power(self, depth: int) -> float | None:
        value = self._atom(depth)
        if value is None:
            return None
        if self._look() in ("squared", "cubed"):
            self.operations += 1
            exponent = 2.0 if self._look() == "squared" else 3.0
            self.at += 1
            return apply("^", value, exponent)
        if self._look() == "^" and self._is_number(1):
            exponent = self.tokens[self.at + 1].value
            self.at, self.operations = self.at + 2, self.operations + 1
            return None if exponent is None else apply("^", value, exponent)
        return value

    def _atom(self, depth: int) -> float | None:
        word = self._look()
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
            inner = self._atom(depth + 1) if self._is_number(0) or self._look() in ("(", "pi") else None
            return None if inner is None else inner * (-1 if word == "-" else 1)
        if word == "(":
            return self._bracket(depth)
        return self._function(word, depth)

    def _bracket(self, depth: int) -> float | None:
        self.at += 1
        value = self._chain("+-", depth + 1)
        if value is None or self._look() != ")":
            return None
        self.at += 1
        return value

    def _function(self, word: str, depth: int) -> float | None:
        if word in _PREFIXES:
            self.at += 1
            self.at += self._look() == "of"
            self.at += self._look() in ("the", "a")
            inner = self._chain("*/", depth + 1) if self._look() in ("(", "sqrt", "pi") or self._is_number(0) else None
            self.operations += 1
            return None if inner is None else _PREFIXES[word] * inner
        if word == "square" and self._look(1) == "root" and self._look(2) == "of":
            self.at += 3
        elif word in ("sqrt", "root"):
            self.at += 1
        else:
            return None
        inner = self._atom(depth + 1)
        self.operations += 1
        return math.sqrt(inner) if inner is not None and inner >= 0 else None
