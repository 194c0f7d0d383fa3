"""Sets of words, written as one text."""

from ptdpo.hints.rules.tokens import stem


def vocabulary(text: str) -> frozenset[str]:
    """Return the words of a text, separated by white space."""
    return frozenset(text.split())


def stems(text: str) -> frozenset[str]:
    """Return the stems of the words of a text."""
    return frozenset(stem(word) for word in text.split())
