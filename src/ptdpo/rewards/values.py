"""Values of expressions: exact where they are rational, to sixty digits otherwise; bounded, so that nothing hangs.

Two expressions are equal if their values agree to 45 digits at several points. Points are fixed, positive and negative,
so that sqrt(x^2) is not x. For numbers this decides, but for coincidences that no answer of 256 characters can hold;
for functions of variables it is the usual test of identities.
"""

import math
import random
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

from mpmath import MPContext

from ptdpo.rewards.expressions import Node

_DIGITS, _AGREE = 60, 45
_POINTS = 4
_LARGEST_POWER, _LARGEST_FACTORIAL, _MAX_BITS = 2000, 300, 4000

Number = Any  # a Fraction, or a real or complex number of mpmath, which has no types


class NoValueError(ValueError):
    """The expression has no value here: division by zero, or out of bounds."""


_mp = MPContext()
_mp.dps = _DIGITS


@lru_cache(maxsize=4096)
def value_of(node: Node) -> Number | None:
    """Return the value of an expression without variables; ``None`` if it has some, or has no value."""
    if node.symbols():
        return None
    try:
        return _value(node, {})
    except (NoValueError, ZeroDivisionError, ValueError, OverflowError, ArithmeticError, TypeError):
        return None


def same_value(first: Number, second: Number) -> bool:
    """Return whether two values are equal, exactly or to 45 digits."""
    if isinstance(first, Fraction) and isinstance(second, Fraction):
        return first == second
    a, b = as_real(first), as_real(second)
    return bool(abs(a - b) <= _mp.mpf(10) ** -_AGREE * max(abs(a), abs(b), _mp.mpf(10) ** -_AGREE))


def same_function(first: Node, second: Node) -> bool:
    """Return whether two expressions agree wherever both have values, in the same variables."""
    if first == second:
        return True
    one, other = first.symbols(), second.symbols()
    if not one and not other:
        a, b = value_of(first), value_of(second)
        return a is not None and b is not None and same_value(a, b)
    # A variable that cancels may be missing on one side, never all of them.
    pairs = values_at_points(first, second)
    return len(pairs) >= 2 and all(same_value(a, b) for a, b in pairs)


def values_at_points(first: Node, second: Node) -> list[tuple[Number, Number]]:
    """Return the values of two expressions at the points where both have some."""
    names = sorted(first.symbols() | second.symbols())
    pairs = []
    for number in range(_POINTS):
        point = {name: _coordinate(name, number) for name in names}
        try:
            pairs.append((_value(first, point), _value(second, point)))
        except (NoValueError, ZeroDivisionError, ValueError, OverflowError, ArithmeticError, TypeError):
            continue
    return pairs


def is_zero(value: Number) -> bool:
    """Return whether a value vanishes."""
    return value == 0 if isinstance(value, Fraction) else bool(abs(value) < _mp.mpf(10) ** -_AGREE)


def ratio_of(first: Number, second: Number) -> Number:
    """Return the quotient of two values."""
    if isinstance(first, Fraction) and isinstance(second, Fraction):
        return first / second
    return as_real(first) / as_real(second)


def scaled(value: Number, factor: Fraction) -> Number:
    """Return a value times an exact factor."""
    return value * factor if isinstance(value, Fraction) else value * as_real(factor)


def sign_of(value: Number) -> int:
    """Return the sign of a real value; 0 for zero and for complex ones."""
    if not isinstance(value, Fraction) and _mp.im(value):
        return 0
    return (value > 0) - (value < 0)


@lru_cache(maxsize=1024)
def _coordinate(name: str, number: int) -> Fraction:
    drawn = random.Random(f"{name} {number}")
    size = Fraction(drawn.randint(10**6, 3 * 10**6), 1_299_709)
    # The second point is all negative, the others are of either sign but for the first.
    return size if number == 0 else -size if number == 1 else size * drawn.choice((-1, 1))


def as_real(value: Number) -> Number:
    """Return a value as a number of sixty digits."""
    return _mp.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def _value(node: Node, point: Mapping[str, Fraction]) -> Number:
    match node.operation:
        case "number":
            return node.value
        case "symbol":
            return point[node.name]
        case "constant":
            return {"π": _mp.pi + 0, "e": _mp.e + 0, "i": _mp.mpc(0, 1)}[node.name]
    values = [_value(part, point) for part in node.parts]
    match node.operation:
        case "+":
            return _bounded(_with(values, lambda a, b: a + b))
        case "*":
            return _bounded(_with(values, lambda a, b: a * b))
        case "/":
            if is_zero(values[1]):
                raise NoValueError
            return _bounded(_with(values, lambda a, b: a / b))
        case "neg":
            return -values[0]
        case "percent":
            return values[0] / 100
        case "degrees":
            return values[0]
        case "abs":
            return abs(values[0])
        case "^":
            return _power(values[0], values[1])
        case "factorial":
            return _factorial(values[0])
    return _function(node, values)


def _with(values: list[Number], operation: Any) -> Number:
    first, second = values
    if isinstance(first, Fraction) != isinstance(second, Fraction):
        first, second = as_real(first), as_real(second)
    return operation(first, second)


def _bounded(value: Number) -> Number:
    if isinstance(value, Fraction) and value.numerator.bit_length() + value.denominator.bit_length() > _MAX_BITS:
        raise NoValueError
    return value


def _power(base: Number, exponent: Number) -> Number:
    whole = isinstance(exponent, Fraction) and exponent.denominator == 1
    if isinstance(base, Fraction) and whole:
        bits = (base.numerator.bit_length() + base.denominator.bit_length()) * abs(exponent)
        if bits > _MAX_BITS or (base == 0 and exponent < 0):
            raise NoValueError
        return base ** int(exponent)
    base, power = as_real(base), as_real(exponent)
    if is_zero(base):
        if sign_of(exponent) <= 0:
            raise NoValueError
        return Fraction(0)
    if abs(power) * (abs(_mp.log(abs(base))) + 1) > _LARGEST_POWER:
        raise NoValueError
    if isinstance(exponent, Fraction) and exponent.denominator % 2 and sign_of(base) < 0 and not whole:
        # An odd root of a negative number is real.
        return -(abs(base) ** power) if exponent.numerator % 2 else abs(base) ** power
    return base**power


def _factorial(value: Number) -> Number:
    if abs(value) > _LARGEST_FACTORIAL:
        raise NoValueError
    if isinstance(value, Fraction) and value.denominator == 1 and value >= 0:
        return Fraction(int(_mp.factorial(int(value)))) if value < 40 else _mp.factorial(int(value))
    return _mp.gamma(as_real(value) + 1)


def _function(node: Node, values: list[Number]) -> Number:
    name = node.operation
    if name == "sqrt":
        return _power(values[0], Fraction(1, 2)) if not _is_square(values[0]) else _exact_root(values[0])
    if name == "root":
        if not isinstance(values[0], Fraction) or values[0].denominator != 1 or not 2 <= values[0] <= 100:
            raise NoValueError
        return _power(values[1], 1 / values[0])
    argument = as_real(values[0])
    if abs(argument) > 10**9:
        raise NoValueError
    degrees = node.parts[0].operation == "degrees" or (
        node.parts[0].operation == "neg" and node.parts[0].parts[0].operation == "degrees"
    )
    if degrees:
        argument = argument * _mp.pi / 180
    if name in ("log", "lg", "ln") and is_zero(argument):
        raise NoValueError
    if name in ("log", "lg"):
        return _mp.log(argument) / _mp.log(as_real(values[1]) if len(values) > 1 else 10)
    functions = {"arcsin": "asin", "arccos": "acos", "arctan": "atan"}
    return getattr(_mp, functions.get(name, name))(argument)


def _is_square(value: Number) -> bool:
    return isinstance(value, Fraction) and value >= 0 and _exact_root(value) ** 2 == value


def _exact_root(value: Fraction) -> Fraction:
    return Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
