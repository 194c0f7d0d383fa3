"""Are two expressions equal as mathematics? Parsed without ``eval``, simplified by sympy: for workers only."""

from tokenize import TokenError
from typing import Any

from ptdpo.rewards.arithmetic import parse_without_eval

_DIGITS = 30
# What does not read as arithmetic equals nothing.
_UNREADABLE = (SyntaxError, TokenError, TypeError, ValueError, AttributeError, ZeroDivisionError)


def symbolically_equal(given: str, expected: str) -> bool:
    """Return whether sympy can show that the difference of two expressions is zero."""
    import sympy

    try:
        return bool(sympy.simplify(_read(f"({expected})-({given})")) == 0)
    except _UNREADABLE:
        return False


def roughly_equal(given: str, expected: str) -> bool:
    """Return whether two expressions are equal, or one is a decimal that the other rounds to."""
    import sympy

    if symbolically_equal(given, expected):
        return True
    try:
        values = [_read(given), _read(expected)]
    except _UNREADABLE:
        return False
    if any(not isinstance(value, sympy.Expr) or value.free_symbols for value in values):
        return False
    first, second = (sympy.N(value, _DIGITS) for value in values)
    # As in quantities: an answer may be rounded to three digits or more, the expected one to two or more.
    places = [_decimals(text, least) for text, least in ((given, 3), (expected, 2))]
    known = [number for number in places if number is not None]
    return bool(known) and bool(abs(first - second) <= sympy.Rational(501, 1000) / 10 ** min(known))


def _read(text: str) -> Any:
    return parse_without_eval(text.replace("^", "**"))


def _decimals(text: str, least_digits: int) -> int | None:
    whole, _, places = text.strip().lstrip("-+").partition(".")
    digits = whole + places
    return len(places) if places and digits.isdigit() and len(digits.lstrip("0")) >= least_digits else None
