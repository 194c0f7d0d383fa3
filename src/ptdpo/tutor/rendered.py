"""Does what a model is shown stand in what it reads? Checked on the first rows of every run that tutors."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ptdpo.data.prompts import Prompt, written_parts
from ptdpo.data.rendering import reads_parts, render
from ptdpo.data.teacher_images import ImagesShown
from ptdpo.data.templates import apply_template
from ptdpo.tutor.context import images_of, shown_to_teacher

_SHOWN = 600


def refuse_unread_prompts(
    processor: Any,
    rows: Iterable[Mapping[str, Any]],
    context: str,
    own: Sequence[Mapping[str, Any]] = (),
    *,
    images: ImagesShown = "question",
    **template: Any,
) -> None:
    """Refuse a chat template that loses the question or what the teacher is shown besides.

    Templates differ in the form of content that they read, and one that does not know a form writes nothing: the
    teacher would read an empty prompt, and nothing would fail.

    Args:
        processor: the model's processor, or the tokenizer of a model of text.
        rows: the first rows of the training data.
        context: what the teacher is shown.
        own: arguments of the chat template for each row, in the place of those for all; empty: there are none.
        images: which images the teacher sees.
        **template: arguments of the chat template for all.

    Raises:
        ValueError: names the row, who would not read what, and shows the rendered prompt.
    """
    for number, row in enumerate(rows):
        if "prompt" not in row:
            # An environment will write it.
            continue
        name, arguments = f"row {row.get('id', number)}", {**template, **(own[number] if own else {})}
        prompt, reads = row["prompt"], _policy_reads(processor, row["prompt"], images_of(row), arguments)
        _refuse(f"{name}: the policy", prompt, reads)
        shown = shown_to_teacher(row, context, images=images)
        if shown is not None:
            rendered = render(processor, shown.prompt, shown.images, **arguments)
            _refuse(f"{name}: the teacher", shown.prompt, rendered)


def _policy_reads(processor: Any, prompt: Prompt, images: list[Any], template: dict[str, Any]) -> str:
    """Return the policy's prompt as the engine renders it: messages of a model of text are handed on as they are."""
    if isinstance(prompt, str) or reads_parts(processor):
        return render(processor, prompt, images, **template)
    return apply_template(processor, prompt, **template)


def _refuse(who: str, prompt: Prompt, rendered: str) -> None:
    read = _squeezed(rendered)
    lost = next((text for text in _texts(prompt) if _squeezed(text) not in read), None)
    if lost is not None:
        raise ValueError(
            f"{who} would not read {_short(lost)}: the chat template renders its prompt as {_short(rendered)}; give "
            "message contents as plain text, or a chat_template that writes them"
        )


def _texts(prompt: Prompt) -> list[str]:
    """Return what users say in a prompt, piece by piece."""
    if isinstance(prompt, str):
        return [prompt]
    users = (message["content"] for message in prompt if message["role"] == "user")
    pieces = (part["text"] for content in users for part in written_parts(content) if part["type"] == "text")
    return [piece for text in pieces for piece in text.split("<image>") if piece.strip()]


def _squeezed(text: str) -> str:
    """Return a text without its white space, which templates trim."""
    return "".join(text.split())


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
