"""What the teacher is shown: the policy's prompt, and what it is told besides."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ptdpo.data.prompts import Context, Message, hint_text, strip_image_markers, with_hint, with_told
from ptdpo.records import Hint

__all__ = [
    "Context",
    "hinted_prompt",
    "images_of",
    "privileged_prompt",
    "right_siblings",
    "without_thinking",
]


def privileged_prompt(row: Mapping[str, Any], context: Context, sibling: str | None = None) -> list[Message] | None:
    """Return the conversation that the teacher reads, or ``None`` if the row lacks what it needs.

    Args:
        row: a row of the training data.
        context: ``hint``: see ``hinted_prompt``; ``question``: the policy's own prompt; ``answer``: with the
            ``answer`` column; ``solution``: with the ``solution`` column; ``sibling``: with another response.
        sibling: a right response of the same group; its thinking is left out.
    """
    if context == "hint":
        return hinted_prompt(row)
    if context == "question":
        return [dict(message) for message in row["prompt"]]
    told = without_thinking(sibling or "") if context == "sibling" else row.get(context)
    # An answer may be the number 0.
    if told is None or told == "":
        return None
    return _replace_last_user_text(row["prompt"], lambda question: with_told(question, context, told))


def images_of(row: Mapping[str, Any]) -> list[Any]:
    """Return a row's images: its ``images``, or the one in ``image``, as TRL reads them."""
    single = row.get("image")
    return list(row.get("images") or ([] if single is None else [single]))


def right_siblings(accuracy: Sequence[float], generations: int) -> list[int | None]:
    """Return for each rollout the next right one of its group, itself excepted; ``None`` if there is none."""
    found: list[int | None] = []
    for row in range(len(accuracy)):
        start = row - row % generations
        others = [start + (row + step) % generations for step in range(1, generations)]
        found.append(next((other for other in others if accuracy[other] == 1), None))
    return found


def without_thinking(response: str) -> str:
    """Return what a response says after its thinking; all of it if it does not think."""
    return re.split(r"</think>", response)[-1].strip()


def hinted_prompt(row: Mapping[str, Any]) -> list[Message] | None:
    """Return the conversation x^h = [x; h] of (9), or ``None`` if the row has no hint.

    Args:
        row: a row of the training data. ``prompt`` holds the policy's messages. ``hint`` holds
            ``{"look", "reason"}`` or a text; it is appended to the last user message, in front of the row's
            ``instruction`` if the message ends with that. Without it, ``prompt_with_hint`` (a whole user message,
            as data of the reference implementation has it) takes the place of the last user message. All three
            may be missing, ``None`` or empty.

    Raises:
        ValueError: if a hint has only one of its two fields, or the prompt has no user message with text.
    """
    hint = _hint_as_text(row.get("hint"), row.get("id", "?"))
    if hint:
        return _replace_last_user_text(row["prompt"], lambda text: with_hint(text, hint, row.get("instruction") or ""))
    ready_made = row.get("prompt_with_hint")
    if ready_made and ready_made.strip():
        return _replace_last_user_text(row["prompt"], lambda _: strip_image_markers(ready_made))
    return None


def _hint_as_text(hint: Any, row_id: Any) -> str | None:
    if hint is None or isinstance(hint, str):
        return hint.strip() if hint else None
    look, reason = hint.get("look"), hint.get("reason")
    if not look and not reason:
        return None
    if not look or not reason:
        raise ValueError(f"row {row_id}: a hint needs both 'look' and 'reason', got {dict(hint)}")
    return hint_text(Hint(look, reason))


def _replace_last_user_text(messages: Sequence[Message], change: Callable[[str], str]) -> list[Message]:
    copied = [dict(message) for message in messages]
    for message in reversed(copied):
        if message["role"] == "user" and isinstance(message["content"], str):
            message["content"] = change(message["content"])
            return copied
    raise ValueError("the prompt has no user message in plain-text form to add the hint to")
