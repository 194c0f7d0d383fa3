"""Attention within a packed row [prompt, response 1 .. G, next prompt, ...], in transformers' attention interface.

The prompt attends to itself, each response to (prompt, itself): ordinary ``sdpa`` calls, no mask over the packed row.
On a GPU and in 16 bits one call of a FlashAttention kernel takes their place (``ptdpo.models.flash_attention``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ptdpo.models import flash_attention
from ptdpo.models.flash_attention import Sequences

# The attentions of transformers that a model may go on with for all other calls. Each has a name of its own, under
# which activation checkpointing finds the packed row's attention again. (``eager`` is a function of each model's file.)
_NAMES = {
    base: f"ptdpo_shared_prefix_{base}"
    for base in ("sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention")
    if base in ALL_ATTENTION_FUNCTIONS and base in ALL_MASK_ATTENTION_FUNCTIONS
}
# A kernel with a mask computes what the mask hides. In blocks of queries, each against the keys up to its end, less is
# hidden; but every block is a call of its own and adds a gradient to all keys.
LEAST_BLOCK, MOST_BLOCKS = 128, 4


def packing(attention: str | None) -> str | None:
    """Return the name of the attention that also takes packed rows; ``None`` if this one cannot be gone on with."""
    return attention if attention in _NAMES.values() else _NAMES.get(attention or "")


def unpacked(attention: str) -> str:
    """Return transformers' name of an attention, whether or not it takes packed rows."""
    return next((base for base, name in _NAMES.items() if name == attention), attention)


@dataclass(frozen=True, slots=True)
class Block:
    """The response positions ``start`` to ``stop``, of the first ``rows`` responses: those that reach so far."""

    rows: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Sight:
    """What the tokens of a group see, as masks of the model's dtype: a kernel would convert any other once per call.

    Attributes:
        prompt: [1, 1, P, P], ``None`` if the prompt is causal.
        responses: [1, 1, R, P + R]: 0 where a response token looks, at the prompt and at its own response so far,
            else minus infinity.
    """

    prompt: Tensor | None
    responses: Tensor


@dataclass(frozen=True, slots=True)
class Group:
    """Where one prompt and its G responses lie in the packed row, the longest response, of R tokens, first.

    Attributes:
        prompt: the prompt's P positions.
        responses: the positions of all responses, one after the other.
        lengths: of the G responses, descending.
        shape: (G, R).
        padded: [G R], for each padded slot which token of ``responses`` to take; ``None`` if all are equally long.
        blocks: how the queries of the responses are cut.
        tokens: for each token of ``responses`` its place in the blocks' slots, one block after the other; ``None`` if
            there is one block without padding.
        sights: what is seen, by the sliding window of a layer; ``None`` for layers without one.
    """

    prompt: slice
    responses: slice
    lengths: tuple[int, ...]
    shape: tuple[int, int]
    padded: Tensor | None
    blocks: tuple[Block, ...]
    tokens: Tensor | None
    sights: Mapping[int | None, Sight]

    def sight(self, window: int | None) -> Sight:
        """Return what a layer with such a window sees; a window that covers the whole group hides nothing."""
        covered = self.prompt.stop - self.prompt.start + self.shape[1]
        return self.sights[None if window is None or window >= covered else window]


@dataclass(frozen=True, slots=True)
class PackedRow:
    """The layout that the attention function needs. A plain object: engines cast or split the containers they know.

    Attributes:
        groups: in the order of the row.
        sequences: the same for a FlashAttention kernel; ``None`` where there is none.
    """

    groups: tuple[Group, ...]
    sequences: Sequences | None = None

    def is_causal(self, window: int | None) -> bool:
        """Return whether all that a layer with such a window hides is the future."""
        every = self.groups
        return all(group.sight(window) is group.sights[None] and group.sights[None].prompt is None for group in every)


def lay_out(
    start: int,
    prompt: int,
    lengths: Sequence[int],
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    *,
    windows: Sequence[int] = (),
    image_blocks: Tensor | None = None,
) -> Group:
    """Return the group of a prompt of P = ``prompt`` tokens at ``start`` and responses of descending lengths.

    Args:
        start: where the prompt stands in the packed row.
        prompt: P.
        lengths: of the responses.
        device: of the masks.
        dtype: of the masks.
        windows: the sliding windows of the model's layers: a token sees that many, itself included.
        image_blocks: [P], the number of the image that a token of the prompt belongs to, -1 for text: tokens of an
            image see each other. ``None``: the prompt is causal.
    """
    end, longest = start + prompt, max(lengths, default=0)
    blocks = _blocks(lengths)
    padded, tokens = _padding(lengths, blocks, device)
    narrow = [window for window in windows if window < prompt + longest]
    sights = {window: _sight(prompt, longest, window, image_blocks, device, dtype) for window in (None, *narrow)}
    shape = (len(lengths), longest)
    places = slice(start, end), slice(end, end + sum(lengths))
    return Group(*places, tuple(lengths), shape, padded, blocks, tokens, sights)


def _sight(
    prompt: int,
    longest: int,
    window: int | None,
    image_blocks: Tensor | None,
    device: torch.device,
    dtype: torch.dtype,
) -> Sight:
    places = torch.arange(prompt + longest, device=device)

    def mask(rows: slice, columns: slice) -> Tensor:
        distance = places[rows].unsqueeze(1) - places[columns]
        seen = distance >= 0
        if image_blocks is not None and rows.start == 0:
            seen |= (image_blocks.unsqueeze(1) == image_blocks) & (image_blocks >= 0)
        if window is not None:
            seen &= distance < window
        return torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill(~seen, -torch.inf)[None, None]

    causal = window is None and (image_blocks is None or bool((image_blocks < 0).all()))
    own = None if causal else mask(slice(0, prompt), slice(0, prompt))
    return Sight(own, mask(slice(prompt, None), slice(0, None)))


def _blocks(lengths: Sequence[int]) -> tuple[Block, ...]:
    longest = max(lengths, default=0)
    count = min(max(longest // LEAST_BLOCK, 1), MOST_BLOCKS)
    edges = [round(longest * number / count) for number in range(count + 1)]
    return tuple(Block(sum(length > start for length in lengths), start, stop) for start, stop in pairwise(edges))


def _padding(
    lengths: Sequence[int], blocks: Sequence[Block], device: torch.device
) -> tuple[Tensor | None, Tensor | None]:
    """Return ``Group.padded`` and ``Group.tokens``."""
    longest = max(lengths, default=0)
    even = min(lengths, default=0) == longest
    if even and len(blocks) == 1:
        return None, None
    sizes = torch.tensor(lengths, device=device).unsqueeze(1)
    steps = torch.arange(longest, device=device)
    # Padding takes any token of its own row: nothing ever looks at it.
    padded = sizes.cumsum(0) - sizes + torch.minimum(steps, sizes - 1)
    slots = torch.zeros(len(lengths), longest, dtype=torch.long, device=device)
    first = 0
    for block in blocks:
        here = slots[: block.rows, block.start : block.stop]
        here += torch.arange(first, first + here.numel(), device=device).view_as(here)
        first += here.numel()
    return None if even else padded.flatten(), slots[steps < sizes]


def shared_prefix_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packed: PackedRow | None = None,
    base: str = "sdpa",
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attend within a packed row [1, heads, L, d]; without one this is transformers' attention ``base``."""
    if packed is None:
        return ALL_ATTENTION_FUNCTIONS[base](module, query, key, value, attention_mask, **kwargs)
    window, dropout, scaling = kwargs.get("sliding_window"), kwargs.get("dropout", 0.0), kwargs.get("scaling")
    if packed.sequences is not None and packed.is_causal(window) and flash_attention.takes(query):
        return flash_attention.attend(query, key, value, packed.sequences, dropout, scaling), None
    pieces = []
    for group in packed.groups:
        sight = group.sight(window)
        q, k, v = (states[:, :, group.prompt] for states in (query, key, value))
        prompt = None if sight.prompt is None else sight.prompt.to(query.dtype)
        pieces.append(sdpa_attention_forward(module, q, k, v, prompt, **kwargs)[0][0])
        if group.shape[1]:
            pieces.append(_responses(query, key, value, group, sight.responses, dropout, scaling))
    return torch.cat(pieces).unsqueeze(0), None


def _responses(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    group: Group,
    sight: Tensor,
    dropout: float,
    scaling: float | None,
) -> Tensor:
    """Return the attention output [tokens, heads, d] of a group's responses, one after the other."""
    own_query, own_key, own_value = (_one_row_each(states, group) for states in (query, key, value))
    count, key_heads = group.shape[0], key.size(1)
    keys, values = (
        torch.cat([states[:, :, group.prompt].expand(count, -1, -1, -1), own], dim=2)
        for states, own in ((key, own_key), (value, own_value))
    )
    # Masked kernels know no grouped heads, and keys repeated for every head would be kept for the backward pass: the
    # heads that share keys take turns instead.
    turns = own_query.unflatten(1, (key_heads, -1)).unbind(2)
    prompt = keys.size(2) - group.shape[1]
    outputs = []
    for block in group.blocks:
        seen = prompt + block.stop
        mask = sight[:, :, block.start : block.stop, :seen].to(query.dtype)
        out = [
            torch.nn.functional.scaled_dot_product_attention(
                heads[: block.rows, :, block.start : block.stop],
                keys[: block.rows, :, :seen],
                values[: block.rows, :, :seen],
                attn_mask=mask,
                dropout_p=dropout,
                scale=scaling,
            )
            for heads in turns
        ]
        outputs.append(torch.stack(out, dim=2).flatten(1, 2).transpose(1, 2).flatten(0, 1))
    if group.tokens is None:
        return outputs[0]
    return torch.cat(outputs).index_select(0, group.tokens)


def _one_row_each(states: Tensor, group: Group) -> Tensor:
    """Return the responses' states [G, heads, R, d] out of a packed row's [1, heads, L, d]."""
    # index_select, because the backward pass of advanced indexing is far slower on a CPU.
    own = states[0, :, group.responses]
    own = own if group.padded is None else own.index_select(1, group.padded)
    return own.unflatten(1, group.shape).transpose(0, 1)


for _base, _name in _NAMES.items():
    AttentionInterface.register(_name, partial(shared_prefix_attention, base=_base))
    AttentionMaskInterface.register(_name, ALL_MASK_ATTENTION_FUNCTIONS[_base])
