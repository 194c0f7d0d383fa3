"""Sets of words, written as one text."""


def vocabulary(text: str) -> frozenset[str]:
    """Return the words of a text, separated by white space."""
    return frozenset(text.split())
