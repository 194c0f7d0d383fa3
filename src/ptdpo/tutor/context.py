"""The conversation that the teacher reads: the policy's prompt, and what ``ptdpo.data.contexts`` shows besides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ptdpo.data.contexts import CONTEXTS, context_named, hint_texts
from ptdpo.data.prompts import IMAGE_MARKER, Prompt, interleave_images, with_hint, written_parts
from ptdpo.data.teacher_images import TEACHER, ImagesShown, view_of, with_places


@dataclass(frozen=True, slots=True)
class Shown:
    """What a teacher reads in front of a response.

    Attributes:
        prompt: a conversation, or plain text.
        images: to be put into it, unless it holds them.
    """

    prompt: Prompt
    images: Sequence[Any] = ()

    def asks(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row whose images are these, for an engine that samples under the prompt."""
        return {**row, "images": list(self.images), "image": None}


def shown_to_teacher(
    row: Mapping[str, Any],
    context: str,
    sibling: str | None = None,
    *,
    images: ImagesShown = "question",
    column: str = TEACHER,
) -> Shown | None:
    """Return what the teacher reads, its images in their places; ``None`` if the row lacks what it needs.

    Args:
        row: as for ``privileged_prompt``.
        context: as there.
        sibling: as there.
        images: which it sees, see ``ptdpo.data.teacher_images``.
        column: of the images that are not the question's.

    Raises:
        ValueError: as ``privileged_prompt``, or if the question has no places for them; names the row.
    """
    prompt = privileged_prompt(row, context, sibling)
    return None if prompt is None else with_images(row, prompt, images=images, column=column)


def with_images(
    row: Mapping[str, Any], prompt: Prompt, *, images: ImagesShown = "question", column: str = TEACHER
) -> Shown | None:
    """Return a prompt of a row with the images that the teacher sees; ``None`` where the row lacks them.

    Raises:
        ValueError: as ``shown_to_teacher``.
    """
    own = images_of(row)
    seen = view_of(own, row, images, column)
    if seen is None or (images == "question" and column == TEACHER):
        return None if seen is None else Shown(prompt, seen)
    try:
        return Shown(with_places(prompt, len(own), len(seen), beside=images == "both"), seen)
    except ValueError as error:
        raise ValueError(f"row {row.get('id', '?')}: {error}") from error


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
    """Return prompts with a row's hints from vague to explicit: its ``hints``, or where to look, then all of a hint.

    A hint that is a text, or a ``prompt_with_hint``, has one level; without a hint there are none.

    Raises:
        ValueError: as ``privileged_prompt``.
    """
    texts, instruction = hint_texts(row), row.get("instruction") or ""
    if not texts:
        whole = hinted_prompt(row)
        return [] if whole is None else [whole]
    prompts = (
        _with_last_question(row["prompt"], lambda question, text=text: with_hint(question, text, instruction))
        for text in texts
    )
    return [prompt for prompt in prompts if prompt is not None]


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
