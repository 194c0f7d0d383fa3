"""What a kind of answer is: how it is read, and when an answer is the same. One entry a kind in ``compare.KINDS``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Compares two parts of answers, in plain spelling: (given, expected) -> the same?
Same = Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of answer.

    Attributes:
        name: as tables and notes show it.
        read: the expected answer in plain spelling, read; ``None`` if it is of another kind.
        same: whether a given answer in plain spelling equals what was read; asks for parts by ``Same``.
    """

    name: str
    read: Callable[[str], Any]
    same: Callable[[str, Any, Same], bool]
