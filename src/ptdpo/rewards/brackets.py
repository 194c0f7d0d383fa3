"""Splitting outside brackets."""

from ptdpo.text.notation import DETERMINANT_CLOSE, DETERMINANT_OPEN, MATRIX_CLOSE, MATRIX_OPEN, SET_CLOSE, SET_OPEN

_OPENING = f"([{SET_OPEN}{MATRIX_OPEN}{DETERMINANT_OPEN}"
_CLOSING = f")]{SET_CLOSE}{MATRIX_CLOSE}{DETERMINANT_CLOSE}"


def split_outside(text: str, separator: str) -> list[str]:
    """Split at a one-character separator that stands outside all brackets; pieces are stripped."""
    pieces, depth, start = [], 0, 0
    for position, char in enumerate(text):
        if char in _OPENING:
            depth += 1
        elif char in _CLOSING:
            depth -= 1
        elif char == separator and depth == 0:
            pieces.append(text[start:position].strip())
            start = position + 1
    return [*pieces, text[start:].strip()]


def encloses_all(text: str) -> bool:
    """Return whether the bracket that opens a text closes at its end."""
    if len(text) < 2 or text[0] not in _OPENING:
        return False
    depth = 0
    for position, char in enumerate(text):
        depth += (char in _OPENING) - (char in _CLOSING)
        if depth == 0:
            return position == len(text) - 1
    return False
