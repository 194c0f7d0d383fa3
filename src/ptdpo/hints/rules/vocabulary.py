"""Sets of words, written as one text."""

from ptdpo.hints.rules.tokens import stem
from ptdpo.text import vocabulary

__all__ = ["stems", "vocabulary"]


def stems(text: str) -> frozenset[str]:
    """Return the stems of the words of a text."""
    return frozenset(stem(word) for word in text.split())
