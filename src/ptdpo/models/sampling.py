"""Sampling from a model in process, with its own random stream."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from ptdpo.data.images import open_image
from ptdpo.data.prompts import attach_images, conversation


def end_token_ids(model: Any, tokenizer: Any) -> list[int]:
    """Return every token id that ends a response: those the model declares and the tokenizer's."""
    declared = model.generation_config.eos_token_id
    declared = [] if declared is None else [declared] if isinstance(declared, int) else list(declared)
    return list(dict.fromkeys([tokenizer.eos_token_id, *declared]))


def banned_token_ids(tokenizer: Any, end_ids: Sequence[int]) -> list[int]:
    """Return the special tokens that a response must not hold: all but those that end it.

    A sampled image marker would be counted as an image without features when the response is scored.
    """
    return sorted(set(tokenizer.all_special_ids) - set(end_ids))


@torch.no_grad()
def sample_responses(
    model: Any,
    processor: Any,
    questions: Sequence[tuple[str, Sequence[str]]],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    batch_size: int = 64,
    seed: int = 0,
    greedy: bool = False,
) -> Iterator[list[str]]:
    """Yield one response per question, in order, a batch at a time.

    Args:
        model: in any mode; left in the mode it was in.
        processor: its processor.
        questions: (user text, image paths) pairs.
        max_new_tokens: length at which a response is cut.
        temperature: sampling temperature.
        top_p: nucleus.
        batch_size: questions per call of ``generate``.
        seed: of a random stream of its own; the global one is not touched.
        greedy: take the most likely token instead of sampling.
    """
    ends = end_token_ids(model, processor.tokenizer)
    settings: dict[str, Any] = {"do_sample": False}
    if not greedy:
        settings = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        eos_token_id=ends,
        pad_token_id=processor.tokenizer.pad_token_id,
        suppress_tokens=banned_token_ids(processor.tokenizer, ends) or None,
        **settings,
    )
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(questions), batch_size):
            inputs = _prompt_inputs(processor, questions[start : start + batch_size]).to(model.device)
            with _own_stream(seed + start):
                output = model.generate(**inputs, generation_config=config)
            yield processor.tokenizer.batch_decode(output[:, inputs["input_ids"].size(1) :], skip_special_tokens=True)
    finally:
        model.train(was_training)


def _prompt_inputs(processor: Any, questions: Sequence[tuple[str, Sequence[str]]]) -> Any:
    images = [[open_image(path) for path in paths] for _, paths in questions]
    texts = [
        processor.apply_chat_template(
            attach_images(conversation(text), pictures), tokenize=False, add_generation_prompt=True
        )
        for (text, _), pictures in zip(questions, images, strict=True)
    ]
    return processor(
        text=texts,
        images=images if any(images) else None,
        padding=True,
        padding_side="left",
        return_tensors="pt",
        add_special_tokens=False,
    )


@contextmanager
def _own_stream(seed: int) -> Iterator[None]:
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
