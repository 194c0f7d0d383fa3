"""How a prompt looks to a model: its chat template applied, in the form of content that the template reads."""

from collections.abc import Sequence
from typing import Any

from ptdpo.data.prompts import Message, Prompt, attach_images, written_parts
from ptdpo.data.templates import apply_template


def reads_parts(processor: Any) -> bool:
    """Return whether a processor reads images beside text: its template then writes messages as lists of parts.

    Templates of models of text write such lists as nothing (Qwen3), or in Python's form (Llama 3, Gemma).
    """
    return getattr(processor, "image_processor", None) is not None


def as_text(prompt: Sequence[Message]) -> list[Message]:
    """Return messages whose content is text.

    Raises:
        ValueError: if one holds an image.
    """
    return [{**message, "content": _text(message["content"])} for message in prompt]


def _text(content: Any) -> Any:
    if content is None or isinstance(content, str):
        return content
    if any(part["type"] != "text" for part in content):
        kinds = sorted({part["type"] for part in content} - {"text"})
        raise ValueError(f"a prompt holds parts of type {', '.join(kinds)}, but the model reads text only")
    return "".join(part["text"] for part in content)


def images_in(prompt: Prompt) -> list[Any]:
    """Return the images that stand inside a prompt, in order."""
    if isinstance(prompt, str):
        return []
    parts = (part for message in prompt for part in written_parts(message["content"] or ""))
    return [part["image"] for part in parts if part["type"] == "image" and "image" in part]


def formed(processor: Any, prompt: Prompt, images: Sequence[Any] = ()) -> Prompt:
    """Return a prompt in the form that a model's template reads, its images in their places.

    Args:
        processor: the model's processor, or the tokenizer of a model of text.
        prompt: messages, their content text or parts; or plain text, which stays as it is.
        images: the images that belong in it; those of a prompt that holds its images already are not put in again.

    Raises:
        ValueError: if there are images, and the model reads text only.
    """
    if isinstance(prompt, str) or not reads_parts(processor):
        if images:
            what = "plain text has no place for them" if isinstance(prompt, str) else "the model reads text only"
            raise ValueError(f"a prompt comes with {len(images)} images, but {what}")
        return prompt if isinstance(prompt, str) else as_text(prompt)
    return attach_images(prompt, () if images_in(prompt) else images)


def render(processor: Any, prompt: Prompt, images: Sequence[Any] = (), **template: Any) -> str:
    """Return a prompt as a model reads it, up to where its response begins; plain text is as it is.

    Args:
        processor: the model's processor, or the tokenizer of a model of text.
        prompt: as for ``formed``.
        images: as for ``formed``.
        **template: arguments of the chat template.

    Raises:
        ValueError: as ``formed``, or if the chat template does not end.
    """
    messages = formed(processor, prompt, images)
    if isinstance(messages, str):
        return messages
    return apply_template(processor, messages, **template)
