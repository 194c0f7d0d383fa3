"""Every text that a policy or a teacher reads: the question, the question with its hint, and images in their places."""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

from ptdpo.records import Hint, Problem

IMAGE_MARKER = "<image>"
# Spellings of the marker that no reader takes for one.
_LIKE_MARKERS = re.compile(r"<\s*[|/]?\s*images?\s*[|/]?\s*>", re.IGNORECASE)

THINKING_INSTRUCTION = (
    "Think first: put your reasoning inside <think> </think>. Then give the final answer in \\boxed{}."
)

Message = dict[str, Any]
# Chat messages, their content text or parts; or plain text, for models without a chat template.
Prompt = list[Message] | str
Image = TypeVar("Image")


def question_text(problem: Problem, instruction: str = THINKING_INSTRUCTION) -> str:
    """Return the question, markers where images stand between words, and the instruction; an empty one adds nothing."""
    return _with_instruction(placed_text(problem.problem), instruction)


def hint_text(hint: Hint) -> str:
    """Return a hint as the teacher reads it: where to look, then how to reason."""
    # Stripped, as a stored ``prompt_with_hint`` is: one hint is one text wherever it comes from.
    return unmarked(f"Hint. Look: {hint.look}\nReason: {hint.reason}".strip())


def unmarked(text: str) -> str:
    """Return a text that is put beside a question, its markers as words: no image stands there, and none may move."""
    return text.replace(IMAGE_MARKER, "image")


def with_hint(text: str, hint: str, instruction: str = "") -> str:
    """Return the privileged context x^h = [x; h] of (9): the question, the hint, then the instruction.

    The hint belongs to the question, so the instruction stays last: there, too, it stands behind the whole questions
    with hints (``prompt_with_hint``) that data of the reference implementation hold.

    Args:
        text: the question; the instruction may follow it.
        hint: as the teacher reads it.
        instruction: that of the prompt, empty for none; if the text does not end with it, the hint comes last.
    """
    ending = f"\n\n{instruction}" if instruction else ""
    if not text.endswith(ending):
        return f"{text}\n\n{hint}"
    return f"{text.removesuffix(ending)}\n\n{hint}{ending}"


def ready_made_hint_text(problem: Problem, instruction: str = THINKING_INSTRUCTION) -> str | None:
    """Return a problem's ``prompt_with_hint`` as a user message, or ``None`` if it is missing or empty."""
    ready_made = placed_text(problem.prompt_with_hint or "")
    return _with_instruction(ready_made, instruction) if ready_made else None


def _with_instruction(text: str, instruction: str) -> str:
    return f"{text}\n\n{instruction}" if instruction else text


def placed_text(text: str) -> str:
    """Return a question whose image markers say something: those in front of all text, the usual place, are left out.

    Where a marker stands between or behind words all stay, so that every image keeps its place.
    """
    text = text.strip()
    rest = text
    while rest.startswith(IMAGE_MARKER):
        rest = rest.removeprefix(IMAGE_MARKER).lstrip()
    return text if IMAGE_MARKER in rest else rest


def marked_text(text: str, images: int) -> str:
    """Return a question with a marker for each of its images: where they are, or else in front."""
    placed = placed_text(text)
    return placed if IMAGE_MARKER in placed else IMAGE_MARKER * images + placed


def marker_slip(text: str) -> str:
    """Return what is wrong with a text in which a marker is misspelt, empty if none is.

    ``<image 1>`` is no slip: texts name images by number so.
    """
    slip = next((one for one in _LIKE_MARKERS.findall(text) if one != IMAGE_MARKER), None)
    return f"{slip}, which is no marker: write {IMAGE_MARKER}" if slip else ""


def strip_image_markers(text: str) -> str:
    """Remove ``<image>`` markers and the line break that follows each: words only, as rules read them."""
    return text.replace(f"{IMAGE_MARKER}\n", "").replace(IMAGE_MARKER, "").strip()


def interleave_images(text: str, images: Sequence[Image]) -> list[str | Image]:
    """Return the text cut at its image markers with an image at each; without markers the images come first.

    Raises:
        ValueError: if there are markers, but not one per image.
    """
    pieces = text.split(IMAGE_MARKER)
    if len(pieces) == 1:
        return [*images, text]
    if len(pieces) != len(images) + 1:
        raise ValueError(f"{len(pieces) - 1} {IMAGE_MARKER} markers but {len(images)} images")
    mixed: list[str | Image] = [pieces[0]]
    for image, piece in zip(images, pieces[1:], strict=True):
        mixed += [image, piece]
    return [part for part in mixed if part != ""]


def conversation(text: str, system: str | None = None) -> list[Message]:
    """Return the chat messages of a question in plain-text form; images are attached by the trainer."""
    messages = [{"role": "system", "content": system}] if system else []
    return [*messages, {"role": "user", "content": text}]


def written_parts(content: Any) -> list[dict[str, Any]]:
    """Return a message's content as parts; fields that a table filled with nulls are left out."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if content is None:  # a turn of tool calls only
        return []
    return [{name: value for name, value in part.items() if value is not None} for part in content]


def image_places(messages: Sequence[Message]) -> int:
    """Return how many places for images a conversation names: markers in users' texts, and parts without an image."""
    return sum(_is_place(part) for message in messages for part in _marked_parts(message))


def attach_images(messages: Sequence[Message], images: Sequence[Any]) -> list[Message]:
    """Return the messages in structured form, with an image at each place.

    Places are markers in users' texts and image parts without an image. Without any, the images stand in front of the
    first user message.

    Raises:
        ValueError: if there are places, but not one per image.
    """
    filling = iter(images)
    return [
        {**message, "content": [{**part, "image": next(filling)} if _is_place(part) else part for part in parts]}
        for message, parts in _with_places(messages, len(images))
    ]


def place_images(messages: Sequence[Message], count: int) -> list[Message]:
    """Return the messages in structured form, with an empty image part at each place, as TRL fills them.

    Raises:
        ValueError: as ``attach_images``, of ``count`` images.
    """
    return [{**message, "content": parts} for message, parts in _with_places(messages, count)]


def _with_places(messages: Sequence[Message], count: int) -> list[tuple[Message, list[dict[str, Any]]]]:
    structured = [(message, _marked_parts(message)) for message in messages]
    named = sum(_is_place(part) for _, parts in structured for part in parts)
    if named and named != count:
        raise ValueError(f"the prompt has places for {named} images ({IMAGE_MARKER}), but there are {count}")
    if not named and count:
        for number, (message, parts) in enumerate(structured):
            if message["role"] == "user":
                structured[number] = (message, [{"type": "image"}] * count + parts)
                return structured
        raise ValueError(f"the prompt has no user message to put its {count} images into")
    return structured


def _marked_parts(message: Message) -> list[dict[str, Any]]:
    """Return a message's parts; in a user's plain text every marker becomes an image part."""
    content = message["content"]
    if message["role"] != "user" or not isinstance(content, str) or IMAGE_MARKER not in content:
        return written_parts(content)
    mixed = interleave_images(content, [{"type": "image"}] * content.count(IMAGE_MARKER))
    return [{"type": "text", "text": part} if isinstance(part, str) else part for part in mixed]


def _is_place(part: dict[str, Any]) -> bool:
    return part["type"] == "image" and "image" not in part
