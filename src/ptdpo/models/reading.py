"""Prompts as tensors: rendered, tokenized, padded on the left, with their images."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ptdpo.data.prompts import Prompt
from ptdpo.data.rendering import formed, images_in, reads_parts, render


def read_prompts(
    processor: Any,
    prompts: Sequence[Prompt],
    images: Sequence[Sequence[Any]],
    own: Sequence[Mapping[str, Any]] = (),
    **template: Any,
) -> dict[str, Tensor]:
    """Return the inputs of a model for a batch of prompts.

    Plain text gets the special tokens that the tokenizer begins a text with; a chat template writes them itself.

    Args:
        processor: the model's processor, or the tokenizer of a model of text.
        prompts: messages, or plain text, all of them alike.
        images: those of each prompt; of a prompt that holds them itself they are not put in again.
        own: arguments of the chat template for each prompt, in the place of those for all; empty: there are none.
        **template: arguments of the chat template for all.

    Raises:
        ValueError: if there are images, and the model reads text only.
    """
    ready = [formed(processor, prompt, those) for prompt, those in zip(prompts, images, strict=True)]
    arguments = [{**template, **each} for each in own or [{}] * len(ready)]
    texts = [render(processor, prompt, **each) for prompt, each in zip(ready, arguments, strict=True)]
    settings: dict[str, Any] = {
        "padding": True,
        "padding_side": "left",
        "return_tensors": "pt",
        "add_special_tokens": isinstance(prompts[0], str),
    }
    if not reads_parts(processor):
        # Some tokenizers return kinds of tokens too, which models of text do not take.
        read = processor(texts, **settings)
        return {name: read[name] for name in ("input_ids", "attention_mask")}
    shown = [images_in(prompt) for prompt in ready]
    return dict(processor(text=texts, images=shown if any(shown) else None, **settings))


def read_images(processor: Any, images: Sequence[Any]) -> dict[str, Tensor]:
    """Return the image inputs of a model whose images follow each other, whatever rows they belong to.

    Args:
        processor: the model's.
        images: of all rows of a batch, row by row.
    """
    return dict(processor.image_processor(images=list(images), return_tensors="pt"))
