"""The reward functions that trainers call: 0.9 accuracy + 0.1 format (Table 3)."""

from collections.abc import Sequence
from typing import Any

from ptdpo.data.files import as_text
from ptdpo.records import Answered
from ptdpo.rewards.extraction import follows_format
from ptdpo.rewards.grading import grade_many

Completion = str | Sequence[dict[str, Any]]

ACCURACY_WEIGHT, FORMAT_WEIGHT = 0.9, 0.1


def completion_text(completion: Completion) -> str:
    """Return the text of a completion, given as text or as chat messages."""
    if isinstance(completion, str):
        return completion
    return "".join(
        part if isinstance(part, str) else "".join(block.get("text", "") for block in part)
        for part in (message["content"] for message in completion)
    )


def accuracy_reward(completions: Sequence[Completion], answer: Sequence[str | float], **_: Any) -> list[float]:
    """Return 1.0 for each completion whose boxed answer is right to mathruler, else 0.0.

    Raises:
        ValueError: if an answer is empty, or neither a text nor a number.
    """
    # Users' own data sets also hold answers as numbers.
    expected = [as_text(one, "answer", "training data") for one in answer]
    items = [Answered(completion_text(c), a) for c, a in zip(completions, expected, strict=True)]
    return [verdict.accuracy for verdict in grade_many(items)]


def format_reward(completions: Sequence[Completion], **_: Any) -> list[float]:
    """Return 1.0 for each completion that thinks once and boxes an answer after it, else 0.0."""
    return [float(follows_format(completion_text(c), prompt_opens_think=True)) for c in completions]
