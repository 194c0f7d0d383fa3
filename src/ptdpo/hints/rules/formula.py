"""Numbers that belong to a formula: exponents, coefficients, the 2 of n - 2."""

from collections.abc import Sequence

from ptdpo.text.tokens import Token
from ptdpo.text.words import vocabulary

_LARGEST = 12
_MEASURES = vocabulary("base height width length times radius")
_SHORT_WORDS = vocabulary(
    """
    a an as at be by do go he if in is it me my no of on or so to up us we cm mm km kg ms m s
    """
)
_CAPITAL_UNITS = frozenset("NVAJWC")


def is_formula(tokens: Sequence[Token], at: int) -> bool:
    """The 2 of x^2, 2πr, n - 2, 1/2 base; never the right side of an equation with a number alone."""
    before, after = _sign(tokens, at - 1), _sign(tokens, at + 1)
    if before == "^":
        return True
    value = tokens[at].value or 0.0
    if value > _LARGEST and value not in (180.0, 360.0):
        return False
    if after == "(" and tokens[at + 1].glued:
        return True
    return _is_name(tokens, at + 1, glued=True) or (
        (before in ("/", "-", "+", "*") and _in_symbols(tokens, at))
        or (after in ("/", "-", "+", "*") and _in_symbols(tokens, at))
    )


def _in_symbols(tokens: Sequence[Token], at: int) -> bool:
    """Return whether a variable or a word such as base stands within the same run of signs and numbers."""
    for step in (-1, 1):
        here = at + step
        while 0 <= here < len(tokens) and abs(here - at) <= 6:
            token = tokens[here]
            if token.kind in ("word", "label") and token.low not in ("pi", "sqrt"):
                if _is_name(tokens, here) or (step == 1 and token.low in _MEASURES):
                    return True
                break
            if token.kind == "sign" and token.low in ("=", ",", ".", ";", ":"):
                break
            here += step
    return False


def _is_name(tokens: Sequence[Token], at: int, glued: bool = False) -> bool:
    """Return whether a token is a variable: one or two letters that are no unit's, or a label such as R1."""
    if not 0 <= at < len(tokens) or (glued and not tokens[at].glued):
        return False
    token = tokens[at]
    if token.kind == "word" and len(token.text) <= 2 and at + 1 < len(tokens) and tokens[at + 1].low == "^":
        return True
    if token.low == "pi":
        return glued and _is_name(tokens, at + 1)
    return token.kind == "label" or (
        token.kind == "word"
        and len(token.text) <= 2
        and token.low not in _SHORT_WORDS
        and token.text not in _CAPITAL_UNITS
    )


def _sign(tokens: Sequence[Token], at: int) -> str:
    return tokens[at].low if 0 <= at < len(tokens) else ""
