"""The question, read for what it already gives away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ptdpo.text.amounts import amounts
from ptdpo.text.tokens import Token
from ptdpo.text.words import stem


@dataclass(frozen=True, slots=True)
class Question:
    """What the question already says: its numbers, and the words that a "how many" asks for."""

    tokens: Sequence[Token]
    numbers: frozenset[float]
    asked: frozenset[str]

    @staticmethod
    def read(tokens: Sequence[Token]) -> Question:
        """Return the numbers and asked words of a question."""
        numbers = frozenset(round(a.value, 9) for a in amounts(tokens) if not a.operations)
        asked: set[str] = set()
        for at, token in enumerate(tokens[:-1]):
            if token.low == "how" and tokens[at + 1].low == "many":
                asked |= {stem(t.low) for t in tokens[at + 2 : at + 6] if t.kind == "word"}
        return Question(tokens, numbers, frozenset(asked - {stem(w) for w in _NOT_ASKED}))

    def states(self, value: float) -> bool:
        """Return whether the question holds the number."""
        return round(value, 9) in self.numbers


_NOT_ASKED = ("more", "are", "do", "does", "is", "in", "the", "different", "than", "on", "of", "have", "a", "many")
