"""Sampling from a model in process, with its own random stream."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from ptdpo.data.prompts import Message
from ptdpo.models.loading import tokenizer_of
from ptdpo.models.reading import read_prompts

# ``generate`` fills what is not set from the model's generation_config.json: some models bring a repetition penalty.
_NEUTRAL = {"repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "typical_p": 1.0, "min_p": 0.0}


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


@dataclass(frozen=True, slots=True)
class Generated:
    """One sampled response: its text, its length in tokens (the one that ends it included), was it cut off?"""

    text: str
    tokens: int
    truncated: bool


@torch.no_grad()
def generate_batch(
    model: Any,
    processor: Any,
    prompts: Sequence[Sequence[Message]],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    greedy: bool = False,
) -> list[Generated]:
    """Return one response per prompt; the outcome depends on the prompts and the seed, on nothing drawn before.

    Args:
        model: in any mode; left in the mode it was in.
        processor: its processor.
        prompts: chat messages in structured form, images as PIL images.
        max_new_tokens: length at which a response is cut.
        temperature: sampling temperature.
        top_p: nucleus.
        seed: of a random stream of its own; the global one is not touched.
        greedy: take the most likely token instead of sampling.
    """
    tokenizer = tokenizer_of(processor)
    ends = end_token_ids(model, tokenizer)
    settings: dict[str, Any] = {"do_sample": False}
    if not greedy:
        settings = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=banned_token_ids(tokenizer, ends) or None,
        **_NEUTRAL,
        **settings,
    )
    inputs = _prompt_inputs(processor, prompts, model.device)
    was_training = model.training
    model.eval()
    try:
        with _own_stream(seed):
            output = model.generate(**inputs, generation_config=config)
    finally:
        model.train(was_training)
    rows = output[:, inputs["input_ids"].size(1) :]
    texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
    return [_generated(text, row.tolist(), ends) for text, row in zip(texts, rows, strict=True)]


def _generated(text: str, tokens: Sequence[int], ends: Sequence[int]) -> Generated:
    end = next((position for position, token in enumerate(tokens) if token in ends), None)
    return Generated(text, len(tokens) if end is None else end + 1, truncated=end is None)


def _prompt_inputs(processor: Any, prompts: Sequence[Sequence[Message]], device: Any) -> dict[str, torch.Tensor]:
    read = read_prompts(processor, [list(prompt) for prompt in prompts], [()] * len(prompts))
    return {name: value.to(device) for name, value in read.items()}


@contextmanager
def _own_stream(seed: int) -> Iterator[None]:
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
