"""Every text that a policy or a teacher reads: the question, and the question with its hint."""

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from ptdpo.records import Hint, Problem

IMAGE_MARKER = "<image>"

THINKING_INSTRUCTION = (
    "Think first: put your reasoning inside <think> </think>. Then give the final answer in \\boxed{}."
)

# What a teacher may be shown besides the question.
Context = Literal["hint", "question", "answer", "solution", "sibling"]

_INTRODUCTION = {
    "answer": "The right answer is:",
    "solution": "This is a worked solution:",
    "sibling": "This is a right response to the question:",
}
_THEN = "Now respond in your own words."

Message = dict[str, Any]
Image = TypeVar("Image")


def question_text(problem: Problem, instruction: str = THINKING_INSTRUCTION) -> str:
    """Return the question followed by the instruction; an empty instruction adds nothing."""
    return _with_instruction(strip_image_markers(problem.problem), instruction)


def hint_text(hint: Hint) -> str:
    """Return a hint as the teacher reads it: where to look, then how to reason."""
    # Stripped, as a stored ``prompt_with_hint`` is: one hint is one text wherever it comes from.
    return f"Hint. Look: {hint.look}\nReason: {hint.reason}".strip()


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


def with_told(text: str, context: Literal["answer", "solution", "sibling"], told: Any) -> str:
    """Return a prompt followed by what the teacher is told besides: an answer, a solution, another response."""
    return f"{text}\n\n{_INTRODUCTION[context]}\n{told}\n\n{_THEN}"


def ready_made_hint_text(problem: Problem, instruction: str = THINKING_INSTRUCTION) -> str | None:
    """Return a problem's ``prompt_with_hint`` as a user message, or ``None`` if it is missing or empty.

    Image markers are removed: images are always given as structured content, never as text.
    """
    ready_made = strip_image_markers(problem.prompt_with_hint or "")
    return _with_instruction(ready_made, instruction) if ready_made else None


def _with_instruction(text: str, instruction: str) -> str:
    return f"{text}\n\n{instruction}" if instruction else text


def strip_image_markers(text: str) -> str:
    """Remove ``<image>`` markers and the line break that follows each."""
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


def attach_images(messages: Sequence[Message], images: Sequence[Any]) -> list[Message]:
    """Return the messages in structured form, the images in front of the first user message."""
    pending = list(images)
    structured = []
    for message in messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
        if message["role"] == "user" and pending:
            parts = [{"type": "image", "image": image} for image in pending] + parts
            pending = []
        structured.append({"role": message["role"], "content": parts})
    return structured
