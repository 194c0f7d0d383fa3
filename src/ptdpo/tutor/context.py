"""What the teacher is shown: the policy's prompt with a hint added."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ptdpo.data.prompts import Message, hint_text, strip_image_markers, with_hint
from ptdpo.records import Hint


def hinted_prompt(row: Mapping[str, Any]) -> list[Message] | None:
    """Return the conversation x^h = [x; h] of (9), or ``None`` if the row has no hint.

    Args:
        row: a row of the training data. ``prompt`` holds the policy's messages. ``hint`` holds
            ``{"look", "reason"}`` or a text; it is appended to the last user message. Without it,
            ``prompt_with_hint`` (a whole user message, as data of the reference implementation has it) takes
            the place of the last user message. Both may be missing, ``None`` or empty.

    Raises:
        ValueError: if a hint has only one of its two fields, or the prompt has no user message with text.
    """
    hint = _hint_as_text(row.get("hint"), row.get("id", "?"))
    if hint:
        return _replace_last_user_text(row["prompt"], lambda text: with_hint(text, hint))
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
