"""Are two expressions equal as mathematics? Parsed without ``eval``, simplified by sympy: for workers only."""

from ptdpo.rewards.arithmetic import parse_without_eval

_DIGITS = 30


def symbolically_equal(given: str, expected: str) -> bool:
    """Return whether sympy can show that the difference of two expressions is zero."""
    import sympy

    difference = parse_without_eval(f"({expected})-({given})".replace("^", "**"))
    return sympy.simplify(difference) == 0


def roughly_equal(given: str, expected: str) -> bool:
    """Return whether two expressions are equal, or a decimal with three digits or more rounds the other."""
    import sympy

    if symbolically_equal(given, expected):
        return True
    values = [parse_without_eval(text.replace("^", "**")) for text in (given, expected)]
    if any(not isinstance(value, sympy.Expr) or value.free_symbols for value in values):
        return False
    first, second = (sympy.N(value, _DIGITS) for value in values)
    decimals = [_decimals(text) for text in (given, expected)]
    known = [places for places in decimals if places is not None]
    # Half a unit in the last place of the coarser of the two decimals.
    return bool(known) and bool(abs(first - second) <= sympy.Rational(501, 1000) / 10 ** min(known))


def _decimals(text: str) -> int | None:
    whole, point, places = text.strip().lstrip("-+").partition(".")
    if not point or not (whole + places).isdigit() or len((whole + places).lstrip("0")) < 3:
        return None
    return len(places)
