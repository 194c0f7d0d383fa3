"""math-verify's opinion of a response. An extra: ``pip install -e '.[math-verify]'``."""

from importlib.util import find_spec


def require_math_verify() -> None:
    """Raise unless math-verify is installed.

    Raises:
        ValueError: if it is not, with how to install it.
    """
    if find_spec("math_verify") is None:
        raise ValueError("a second opinion needs math-verify: pip install -e '.[math-verify]'")


def math_verify_opinion(response: str, expected: str) -> bool:
    """Return math-verify's verdict on a whole response, extraction included. May take long: for workers only."""
    from math_verify import parse, verify

    # Its time limits do not stop what runs in C; ours do. Zero switches its own off.
    gold = parse(f"${expected}$", parsing_timeout=0)
    return bool(verify(gold, parse(response, parsing_timeout=0), timeout_seconds=None))
