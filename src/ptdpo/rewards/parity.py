"""mathruler's verdict, without its use of ``eval`` and without its hangs.

mathruler compares text after normalisation and, where that does not settle the matter, lets sympy parse both
answers, which evaluates them as Python, and simplify their difference, which may take for ever. Everything but
that last step is mathruler's own code, called; the last step runs in a worker process and evaluates nothing.
"""

import re
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

from ptdpo.rewards.arithmetic import parse_without_eval

# Longer answers go to a worker: some of mathruler's steps are not linear.
_SHORT = 120
# Leading zeros are mathruler's to judge: inside a tuple it takes them for a syntax error.
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})")
_LETTER = re.compile(r"[A-Za-z]")


class _NeedsSympy(Exception):  # noqa: N818  (a signal, not an error)
    pass


def boxed_content(response: str) -> str:
    """Return what mathruler takes for the answer: the last ``\\boxed{}``, or the word "None" without one."""
    start = response.rfind("\\boxed{")
    # Most rejected responses have no box; the rest is mathruler's, from the last box on, where it looks.
    return "None" if start == -1 else _mathruler().extract_boxed_content(response[start:])


def parity_here(given: str, expected: str) -> bool | None:
    """Return mathruler's verdict where it can be known without parsing anything, else ``None``; takes microseconds."""
    if given == expected:
        return True
    plainly = _plainly_equal(given, expected)
    if plainly is not None:
        return plainly
    if len(given) > _SHORT or len(expected) > _SHORT:
        return None
    if "\\" in given or "\\" in expected:
        return None
    try:
        return _without_sympy()(given, expected)
    except _NeedsSympy:
        return None


def parity_in_worker(given: str, expected: str) -> bool:
    """Return mathruler's verdict. May take for ever: for worker processes only."""
    return bool(_in_full()(given, expected))


def _plainly_equal(given: str, expected: str) -> bool | None:
    """Return whether two integers, or two letters, are equal to sympy; ``None`` for anything else."""
    if _INTEGER.fullmatch(given) and _INTEGER.fullmatch(expected):
        return int(given) == int(expected)
    if _LETTER.fullmatch(given) and _LETTER.fullmatch(expected):
        # Two symbols; mathruler ignores case.
        return given.lower() == expected.lower()
    return None


@cache
def _without_sympy() -> Callable[[str, str], bool]:
    grader = _mathruler()

    def are_equal(expected: str, given: str) -> bool:
        plainly = _plainly_equal(given, expected)
        if plainly is not None:
            return plainly
        if grader.should_allow_eval(f"({expected})-({given})"):
            raise _NeedsSympy
        return False

    return _rebound(grader.grade_answer, grader, are_equal_under_sympy=are_equal)


@cache
def _in_full() -> Callable[[str, str], bool]:
    grader = _mathruler()
    are_equal = _rebound(grader.are_equal_under_sympy, grader, _sympy_parse=_parse_python)
    return _rebound(grader.grade_answer, grader, are_equal_under_sympy=are_equal)


def _parse_python(expression: str) -> Any:
    return parse_without_eval(expression.replace("^", "**"))


def _rebound(function: Any, module: Any, **names: Any) -> Any:
    """Return a function that sees other objects behind some global names; the module stays as it is."""
    return FunctionType(function.__code__, {**vars(module), **names}, function.__name__, function.__defaults__)


@cache
def _mathruler() -> Any:
    # It imports sympy: only when an answer needs it.
    import mathruler.grader

    return mathruler.grader
