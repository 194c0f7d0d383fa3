"""What one block of a tower needs for a forward and a backward pass, at real sizes, without computing anything."""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AttentionInterface, AutoModelForCausalLM, AutoModelForImageTextToText, PretrainedConfig

from ptdpo.models.loading import reads_images
from ptdpo.train.memory.sizes import ModelSizes, text_blocks, vision_blocks
from ptdpo.train.memory.watched import KeptBytes, LiveBytes, autocast_as

_ATTENTION = "ptdpo_planned"
_Places = tuple[Tensor, Tensor]
_Forward = Callable[[Any, Tensor, _Places], Tensor]


@dataclass(frozen=True, slots=True)
class BlockBytes:
    """Bytes of one block, beyond weights and their gradients.

    Attributes:
        entry: what comes in, which is all that activation checkpointing keeps.
        kept: what autograd keeps of a forward pass without checkpointing.
        peak: the most that a forward and a backward pass hold at once, what comes in left out.
        read: the most that a forward pass holds that is not differentiated.
    """

    entry: int
    kept: int
    peak: int
    read: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """In which types a model is held and computed.

    Attributes:
        weights: that of the weights as a forward pass sees them.
        products: that of products.
    """

    weights: torch.dtype
    products: torch.dtype


@functools.lru_cache(maxsize=64)
def text_block_bytes(sizes: ModelSizes, tokens: int, keys: int | None, numbers: Numbers) -> BlockBytes:
    """Return what a block of the language model needs for a row of so many tokens.

    Args:
        sizes: the model's.
        tokens: of all rows.
        keys: in a packed row, how many keys a FlashAttention kernel is given: those of a prompt once for each response
            that sees it. ``None``: the plain layout, whose padding needs a mask, and that a key for every head.
        numbers: types.

    Raises:
        ValueError: if its blocks are of several kinds, or take other arguments than those that most take.
    """
    config, text = sizes.config, sizes.text
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    if len(set(getattr(text, "layer_types", None) or [""])) > 1:
        raise ValueError(f"model type {config.model_type!r}: its blocks are of several kinds, which plan does not know")

    def forward(model: Any, states: Tensor, places: _Places) -> Tensor:
        block = text_blocks(model)[0]
        return block(states, position_embeddings=places, attention_mask=None, planned_keys=keys)

    return _bytes_of(config, (1, tokens, text.hidden_size), width, forward, numbers, numbers.weights)


@functools.lru_cache(maxsize=64)
def vision_block_bytes(sizes: ModelSizes, patches: int, numbers: Numbers) -> BlockBytes | None:
    """Return what a block of a vision tower of Qwen's kind needs for so many patches; ``None`` for other towers."""
    config, vision = sizes.config, sizes.vision
    heads = getattr(vision, "num_heads", None)
    if heads is None:
        return None
    size = getattr(vision, "embed_dim", None) or vision.hidden_size

    def forward(model: Any, states: Tensor, places: _Places) -> Tensor:
        blocks = vision_blocks(model)
        assert blocks is not None
        return blocks[0](states, cu_seqlens=_OneSequence(patches), position_embeddings=places)

    # Patches come out of a convolution, and stay in the type of products.
    return _bytes_of(config, (patches, size), size // heads, forward, numbers, numbers.products)


class _OneSequence:
    """Stands for the ends of the sequences of a batch: models ask for the list of lengths."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __getitem__(self, part: Any) -> "_OneSequence":
        return self

    def __sub__(self, other: "_OneSequence") -> "_OneSequence":
        return self

    def tolist(self) -> list[int]:
        return [self._length]


def _bytes_of(
    config: PretrainedConfig,
    shape: tuple[int, ...],
    width: int,
    forward: _Forward,
    numbers: Numbers,
    dtype: torch.dtype,
) -> BlockBytes:
    """Return the bytes of ``forward(model of one block, states of this shape, cosines and sines of this width)``."""
    with FakeTensorMode():
        model = _with_one_block(config, numbers.weights).train()
        states = torch.empty(shape, dtype=dtype, requires_grad=True)
        places = (states.detach().new_empty(*shape[:-1], width), states.detach().new_empty(*shape[:-1], width))
        with KeptBytes(beside=[states, *model.parameters()]) as kept, autocast_as(numbers.products):
            forward(model, states, places)
        watched = LiveBytes()
        with watched:
            with autocast_as(numbers.products):
                out = forward(model, states, places)
            out.backward(torch.empty_like(out))
        del out
        reading = LiveBytes()
        with reading, torch.no_grad(), autocast_as(numbers.products):
            forward(model, states, places)
    entry = states.numel() * states.element_size()
    return BlockBytes(entry, kept.bytes, watched.peak, reading.peak)


def _with_one_block(config: PretrainedConfig, dtype: torch.dtype) -> Any:
    small = copy.deepcopy(config)
    text, vision = small.get_text_config(), getattr(small, "vision_config", None)
    text.num_hidden_layers = 1
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:1]
    if vision is not None and hasattr(vision, "depth"):
        vision.depth = 1
        for name in ("deepstack_visual_indexes", "fullatt_block_indexes"):
            if getattr(vision, name, None):
                setattr(vision, name, [0])
    kind = AutoModelForImageTextToText if reads_images(small) else AutoModelForCausalLM
    model = kind.from_config(small, dtype=dtype)
    parts = {"text_config": _ATTENTION, "vision_config": _ATTENTION} if text is not small else _ATTENTION
    model.set_attn_implementation(parts)
    return model


class Flash(torch.autograd.Function):
    """What a FlashAttention kernel allocates and keeps, in the place of what it computes."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:  # type: ignore[override]
        """Keep queries [L, heads, d], keys and values [M, key heads, d], the output and its log-sum-exp [L, heads]."""
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:2], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Return gradients, beside sums of queries in float32, and of keys for every head where heads share them."""
        query, key, value, *_ = ctx.saved_tensors
        beside = [query.new_empty(query.shape, dtype=torch.float32)]
        if key.size(1) < query.size(1):
            beside += [states.new_empty(len(key), query.size(1), key.size(2)) for states in (key, value)]
        gradients = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        del beside
        return gradients


def _planned_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    planned_keys: int | None = 0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Stand in for ``ptdpo.models.flash_attention.attend``: [1, heads, L, d] -> [1, L, heads, d]."""
    autocast = torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu") if autocast else query.dtype
    states = [each[0].transpose(0, 1) for each in (query, key, value)]
    if planned_keys is None:
        states[1:] = [each.repeat_interleave(query.size(1) // key.size(1), dim=1) for each in states[1:]]
    elif planned_keys:
        seen = torch.zeros(planned_keys, dtype=torch.long)
        states[1:] = [each.index_select(0, seen) for each in states[1:]]
    return Flash.apply(*(each.to(dtype) for each in states)).unsqueeze(0), None  # type: ignore[union-attr]


AttentionInterface.register(_ATTENTION, _planned_attention)
