"""What a function of the user's says of each rollout, for a teacher whose context is ``feedback``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ptdpo.data.contexts import Row
from ptdpo.train.settings import PTDConfig

Feedback = Callable[..., Sequence[str | None]]
# What reward functions are given under names of their own.
_NOT_COLUMNS = ("prompt", "completion", "completion_ids")


def refuse_unread_feedback(args: PTDConfig, feedback: Feedback | None) -> None:
    """Refuse a function that nobody would read.

    Raises:
        ValueError: if there is one, and no teacher whose context it is.
    """
    if feedback is not None and not (args.tutors and args.tutoring_context == "feedback"):
        raise ValueError(
            f"feedback=FUNCTION with tutoring_weight={args.tutoring_weight} and tutoring_context="
            f"{args.tutoring_context}: nobody would read it; set tutoring_context=feedback"
        )


def said_of_rollouts(
    feedback: Feedback | None, rows: Sequence[Row], prompts: Any, completions: Any, response_ids: Any
) -> list[dict[str, Any]]:
    """Return what takes the place of columns of each rollout's row: its feedback; nothing without a function.

    Args:
        feedback: called as reward functions are, with ``prompts``, ``completions``, ``completion_ids`` and the columns
            of the data; returns a text per rollout, ``None`` or empty where there is nothing to say.
        rows: of this process.
        prompts: of the rollouts.
        completions: as reward functions get them.
        response_ids: of each.

    Raises:
        ValueError: if it returns something else.
    """
    if feedback is None:
        return [{}] * len(rows)
    columns = {key: [row[key] for row in rows] for key in rows[0] if key not in _NOT_COLUMNS}
    said = list(feedback(prompts=prompts, completions=completions, completion_ids=response_ids, **columns))
    odd = next((text for text in said if text is not None and not isinstance(text, str)), None)
    if odd is not None or len(said) != len(rows):
        found = f"{len(said)} values for {len(rows)} rollouts" if odd is None else f"{odd!r}"
        raise ValueError(f"feedback=FUNCTION returned {found}: it must return a text, or None, for each rollout")
    return [{"feedback": text} for text in said]


def with_columns(rows: Sequence[Row], changed: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows in which some columns are others."""
    return [{**row, **own} for row, own in zip(rows, changed, strict=True)]
