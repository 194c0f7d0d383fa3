"""Numbers in figures: how they are written, in patterns, and what they are worth."""

from fractions import Fraction

_GROUPED = r"\d{1,3}(?:,\d{3})+"
# Of an answer, where nothing else follows: a point may end it, a comma goes on to the next of a list.
DECIMAL = rf"(?:{_GROUPED}(?![\d,])|\d+)(?:\.\d*)?|\.\d+"
# Within running text, where commas and points also end clauses and sentences.
DECIMAL_IN_TEXT = rf"{_GROUPED}(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?|\.\d+"


def read_decimal(text: str) -> Fraction:
    """Return the value of figures as the patterns have them, with a sign and a power ("e-3") or without."""
    return Fraction(text.replace(",", "").rstrip("."))
