"""Mathematics beyond our own reader, read and compared by math-verify: for worker processes only.

math-verify takes a text that it cannot read for a string, drops signs that it does not know, and forgives rounding;
so it is asked only where both sides are plainly mathematics, must read both, and must find the same unknowns.
"""

import re
from typing import Any

_INDEX_I = re.compile(r"\\(?:sum|prod)_\{?\s*i\b")


def symbolically_equal(given: str, expected: str) -> bool:
    """Return whether math-verify reads both answers as mathematics in the same letters and finds them equal."""
    from math_verify import verify

    if _capitals(given) != _capitals(expected):
        # math-verify reads N as n.
        return False
    first, second = _read(given), _read(expected)
    if first is None or second is None or _letters(first) != _letters(second):
        return False
    return bool(verify(second, first, float_rounding=15, strict=True, timeout_seconds=None))


def math_verify_opinion(response: str, expected: str) -> bool:
    """Return math-verify's verdict on a whole response, extraction included. May take long: for workers only."""
    from math_verify import parse, verify

    # Its time limits do not stop what runs in C; ours do. Zero switches its own off.
    gold = parse(f"${expected}$", parsing_timeout=0)
    return bool(verify(gold, parse(response, parsing_timeout=0), timeout_seconds=None))


def _read(answer: str) -> Any:
    from math_verify import LatexExtractionConfig, parse
    from sympy import Basic, MatrixBase

    text = answer.strip().strip("$")
    if _INDEX_I.search(text) and "k" not in text:
        # i is the imaginary unit there, also as the index of a sum.
        text = re.sub(r"(?<![a-zA-Z\\])i(?![a-zA-Z])", "k", text)
    found = parse(f"\\boxed{{{text}}}", [LatexExtractionConfig()], parsing_timeout=0, fallback_mode="no_fallback")
    return next((one for one in found if isinstance(one, Basic | MatrixBase)), None)


def _capitals(text: str) -> set[str]:
    return set(re.findall(r"(?<![a-zA-Z\\])[A-Z](?![a-zA-Z])", text))


def _letters(read: Any) -> set[str]:
    return {str(symbol) for symbol in read.free_symbols}
