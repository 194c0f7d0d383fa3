"""The conversation that the teacher reads: the policy's prompt, and what ``ptdpo.data.contexts`` shows besides."""

from collections.abc import Callable, Mapping
from typing import Any

from ptdpo.data.contexts import CONTEXTS, context_named, hint_look
from ptdpo.data.prompts import IMAGE_MARKER, Prompt, interleave_images, with_hint, written_parts


def privileged_prompt(row: Mapping[str, Any], context: str, sibling: str | None = None) -> Prompt | None:
    """Return the prompt that the teacher reads, in the form of the policy's; ``None`` if the row lacks what it needs.

    Args:
        row: a row of the training data; ``prompt`` holds chat messages, their content text or parts, or plain text.
            The last user message is the question.
        context: a name of ``CONTEXTS``.
        sibling: a right response of the same group; its thinking is left out.

    Raises:
        ValueError: if a hint has only one of its two fields, or the prompt has no user message with text.
    """
    return _with_last_question(row["prompt"], lambda question: context_named(context).text(question, row, sibling))


def hinted_prompt(row: Mapping[str, Any]) -> Prompt | None:
    """Return the prompt x^h = [x; h] of (9), or ``None`` if the row has no hint.

    Args:
        row: a row of the training data. ``hint`` holds ``{"look", "reason"}`` or a text; it is appended to the last
            user message, in front of the row's ``instruction`` if the message ends with that. Without it,
            ``prompt_with_hint`` (a whole user message, as data of the reference implementation has it) takes the place
            of the last user message. All three may be missing, ``None`` or empty.

    Raises:
        ValueError: as ``privileged_prompt``.
    """
    return privileged_prompt(row, CONTEXTS["hint"].name)


def hint_levels(row: Mapping[str, Any]) -> list[Prompt]:
    """Return prompts with a row's hint from vague to explicit: where to look, then all of it; none if it has none.

    A hint that is a text, or a ``prompt_with_hint``, has one level.

    Raises:
        ValueError: as ``privileged_prompt``.
    """
    whole = hinted_prompt(row)
    if whole is None:
        return []
    look = hint_look(row)
    if not look:
        return [whole]
    vague = _with_last_question(row["prompt"], lambda question: with_hint(question, look, row.get("instruction") or ""))
    assert vague is not None
    return [vague, whole]


def images_of(row: Mapping[str, Any]) -> list[Any]:
    """Return a row's images: its ``images``, the one in ``image``, or those inside its prompt, as TRL reads them."""
    single = row.get("image")
    images = list(row.get("images") or ([] if single is None else [single]))
    if images or isinstance(row.get("prompt"), str):
        return images
    parts = (part for message in row.get("prompt") or () for part in written_parts(message["content"]))
    return [part["image"] for part in parts if part["type"] == "image" and "image" in part]


def _with_last_question(prompt: Prompt, change: Callable[[str], str | None]) -> Prompt | None:
    if isinstance(prompt, str):
        return change(prompt)
    copied = [dict(message) for message in prompt]
    for message in reversed(copied):
        if message["role"] == "user" and _has_text(message["content"]):
            changed = _changed(message["content"], change)
            message["content"] = changed
            return None if changed is None else copied
    raise ValueError("the prompt has no user message with text to add to what the teacher is shown")


def _has_text(content: Any) -> bool:
    return isinstance(content, str) or any(part["type"] == "text" for part in written_parts(content))


def _changed(content: Any, change: Callable[[str], str | None]) -> Any:
    """Return a changed content in its own form: of parts, the images stay where they stand in the text."""
    if isinstance(content, str):
        return change(content)
    parts = written_parts(content)
    text = change("".join(part["text"] if part["type"] == "text" else IMAGE_MARKER for part in parts))
    if text is None:
        return None
    images = [part for part in parts if part["type"] != "text"]
    mixed = interleave_images(text, images)
    return [{"type": "text", "text": part} if isinstance(part, str) else part for part in mixed]
