"""Generation that reads each distinct prompt once: its cache is repeated for every rollout of the group."""

import functools
import types
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import DynamicCache

from ptdpo.models.family import family_of, hand_on_offsets
from ptdpo.models.plain_batch import PlainBatch


def share_prefill(model: Any, *, together: bool = False) -> None:
    """Let ``model.generate`` prefill each distinct (prompt, images) of a batch once; samples stay the same.

    Batches in which nothing is shared, and calls with a cache of their own or a given kind of cache, without a cache,
    with beams, or with several sequences per row, are generated as before.

    Args:
        model: whose ``generate`` is replaced.
        together: whether all processes make each forward in common, as those of a sharded model do. All of them then
            prefill where one has prompts to share and all are able to; ``generate`` must be called by all of them.
    """
    generate, known = model.generate, family_of(model.config).inputs

    @functools.wraps(type(model).generate)
    def shared(self: Any, *args: Any, **kwargs: Any) -> Any:
        inputs = {name: kwargs[name] for name in known & kwargs.keys() if kwargs[name] is not None}
        given = {name: value for name, value in kwargs.items() if name not in known}
        usable = not args and {"input_ids", "attention_mask"} <= inputs.keys() and _is_plain_sampling(self, given)
        plain = PlainBatch(self, inputs, 0) if usable else None
        able = plain is not None and _is_remembered(self, plain)
        groups = plain.groups() if plain is not None and able else []
        gains = plain is not None and able and len(groups) < len(plain.prompts)
        if together:
            able, gains = _agreed(able, gains, self.device)
        cache = _prefilled(self, inputs, plain, groups) if plain is not None and able and gains else None
        if cache is None:
            return generate(*args, **kwargs)
        texts = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        return generate(**texts, **given, past_key_values=cache)

    model.generate = types.MethodType(shared, model)


def _agreed(able: bool, gains: bool, device: torch.device) -> tuple[bool, bool]:
    """Return whether every process is able to prefill, and whether any gains by it. A collective call."""
    said = torch.tensor([not able, gains], dtype=torch.int32, device=device)
    dist.all_reduce(said, op=dist.ReduceOp.MAX)
    unable, gaining = said.tolist()
    return not unable, bool(gaining)


def _is_plain_sampling(model: Any, kwargs: dict[str, Any]) -> bool:
    """Return whether a call of ``generate`` samples one response per row into a cache that it makes itself.

    Args:
        model: the model.
        kwargs: the call's arguments but for the inputs that the model's family is known to read.
    """
    config = kwargs.get("generation_config") or model.generation_config

    def setting(name: str) -> Any:
        # As in generate, an argument overrules the configuration.
        return kwargs[name] if kwargs.get(name) is not None else getattr(config, name, None)

    foreign = any(isinstance(value, Tensor) for value in kwargs.values())
    one_each = (setting("num_beams") or 1) == 1 and (setting("num_return_sequences") or 1) == 1
    own_cache = setting("use_cache") is not False and setting("cache_implementation") is None
    return not foreign and one_each and own_cache and kwargs.get("past_key_values") is None


def _is_remembered(model: Any, plain: PlainBatch) -> bool:
    """Return whether a cache of the prompts can be cut by a token: a layer's window as long as they has forgotten."""
    width, window = plain.prompts.size(1), getattr(model.config.get_text_config(), "sliding_window", None)
    return width > 1 and (window is None or width < window)


@torch.no_grad()
def _prefilled(
    model: Any, inputs: dict[str, Tensor], plain: PlainBatch, groups: list[list[int]]
) -> DynamicCache | None:
    """Return the cache of all rows but for their last token, from one row of each group; ``None`` if it stays empty."""
    first = [rows[0] for rows in groups]
    cache = DynamicCache(config=model.config.get_text_config())
    per_row = {name: inputs[name][first] for name in inputs if name not in plain.family.image_fields}
    given = {**per_row, **plain.images_of(first)}
    # Where generate goes on, it counts positions without padding, from the offsets that this call leaves in the model.
    positions = model._prepare_position_ids_for_generation(given["input_ids"], given)
    # Through the whole model, so that an engine's wrapper sees an ordinary call.
    model(**given, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
    if cache.get_seq_length() == 0:
        return None
    group_of = torch.empty(len(plain.prompts), dtype=torch.long, device=plain.prompts.device)
    for number, rows in enumerate(groups):
        group_of[rows] = number
    cache.crop(-1)
    cache.batch_select_indices(group_of)
    hand_on_offsets(model, group_of)
    return cache
