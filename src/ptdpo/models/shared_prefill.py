"""Generation that reads each distinct prompt once: its cache is repeated for every rollout of the group."""

import functools
import types
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ptdpo.models.plain_batch import KNOWN_INPUTS, PlainBatch


def share_prefill(model: Any) -> None:
    """Let ``model.generate`` prefill each distinct (prompt, images) of a batch once; samples stay the same.

    Batches in which nothing is shared, and calls that bring a cache of their own or search with beams, are
    generated as before.
    """
    generate = model.generate

    @functools.wraps(type(model).generate)
    def shared(self: Any, *args: Any, **kwargs: Any) -> Any:
        inputs = {name: kwargs[name] for name in KNOWN_INPUTS & kwargs.keys() if kwargs[name] is not None}
        config = kwargs.get("generation_config") or self.generation_config
        foreign = [name for name, value in kwargs.items() if isinstance(value, Tensor) and name not in KNOWN_INPUTS]
        one_each = (config.num_beams or 1) == 1 and (config.num_return_sequences or 1) == 1
        usable = not args and not foreign and one_each and {"input_ids", "attention_mask"} <= inputs.keys()
        cache = _prefilled(self, inputs) if usable and kwargs.get("past_key_values") is None else None
        if cache is None:
            return generate(*args, **kwargs)
        rest = {name: value for name, value in kwargs.items() if name not in KNOWN_INPUTS}
        texts = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        return generate(**texts, **rest, past_key_values=cache)

    model.generate = types.MethodType(shared, model)


@torch.no_grad()
def _prefilled(model: PreTrainedModel, inputs: dict[str, Tensor]) -> DynamicCache | None:
    """Return the cache of all rows but for their last token; ``None`` if no two rows have a prompt in common."""
    plain = PlainBatch(model, inputs, 0)
    groups = plain.groups()
    if len(groups) == len(plain.prompts) or plain.prompts.size(1) < 2:
        return None
    first = [rows[0] for rows in groups]
    cache = DynamicCache(config=model.config.get_text_config())
    per_row = {name: inputs[name][first] for name in inputs if name not in ("pixel_values", "image_grid_thw")}
    # Through the whole model, so that an engine's wrapper sees an ordinary call.
    model(**per_row, **plain.images_of(first), past_key_values=cache, use_cache=True, logits_to_keep=1)
    if cache.get_seq_length() == 0:
        return None
    group_of = torch.empty(len(plain.prompts), dtype=torch.long, device=plain.prompts.device)
    for number, rows in enumerate(groups):
        group_of[rows] = number
    cache.crop(-1)
    cache.batch_select_indices(group_of)
    deltas = getattr(model.base_model, "rope_deltas", None)
    if deltas is not None:
        model.base_model.rope_deltas = deltas[group_of]
    return cache
