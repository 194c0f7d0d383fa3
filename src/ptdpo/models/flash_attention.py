"""Attention within a packed row as one call of a FlashAttention kernel, on a GPU and in 16 bits.

The row is a list of sequences of unequal length: each prompt against itself, each response against (prompt, itself).
The kernel aligns the last query with the last key, which is all that causality needs here: no mask and no padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

# What the kernels of FlashAttention 2 take.
_LARGEST_HEAD, _HEAD_STEP, _CAPABILITY = 256, 8, (8, 0)


@dataclass(frozen=True, slots=True)
class Sequences:
    """A packed row as S sequences, whose queries lie one after the other in it.

    Attributes:
        keys: [M], the positions in the row that the sequences' queries see, one sequence after the other.
        query_ends: [S + 1] int32, 0 and where each sequence's queries end.
        key_ends: [S + 1] int32, 0 and where each sequence's keys end in ``keys``.
        most_queries: of any sequence.
        most_keys: of any sequence.
    """

    keys: Tensor
    query_ends: Tensor
    key_ends: Tensor
    most_queries: int
    most_keys: int


def sequences_of(groups: Sequence[tuple[int, Sequence[int]]], device: torch.device) -> Sequences:
    """Return the sequences of the row [prompt, response 1 .. G, next prompt, ...].

    Args:
        groups: the length of each prompt, and of its responses.
        device: of the row.
    """
    keys: list[Tensor] = []
    queries, seen, start = [], [], 0
    for prompt, lengths in groups:
        own = torch.arange(start, start + prompt)
        keys.append(own)
        queries.append(prompt)
        seen.append(prompt)
        start += prompt
        for length in lengths:
            keys += [own, torch.arange(start, start + length)]
            queries.append(length)
            seen.append(prompt + length)
            start += length
    return Sequences(torch.cat(keys).to(device), _ends(queries, device), _ends(seen, device), max(queries), max(seen))


def _ends(lengths: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)


def compute_dtype(query: Tensor) -> torch.dtype:
    """Return the type that attention computes in: that of autocast, where it is on."""
    autocast = torch.is_autocast_enabled(query.device.type)
    return torch.get_autocast_dtype(query.device.type) if autocast else query.dtype


def takes(query: Tensor) -> bool:
    """Return whether the kernel takes such queries [1, heads, L, d]."""
    if not query.is_cuda or compute_dtype(query) not in (torch.float16, torch.bfloat16):
        return False
    size = query.size(-1)
    fits = size <= _LARGEST_HEAD and size % _HEAD_STEP == 0
    return fits and torch.cuda.get_device_capability(query.device) >= _CAPABILITY


def attend(
    query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, dropout: float, scaling: float | None
) -> Tensor:
    """Return the attention output [1, L, heads, d] of a packed row.

    Args:
        query: [1, heads, L, d].
        key: [1, key heads, L, d].
        value: [1, key heads, L, d].
        sequences: of the row.
        dropout: share of the weights left out.
        scaling: of the scores; ``None``: 1 / sqrt(d).
    """
    dtype = compute_dtype(query)
    # Gathered before they are cast: a prompt's gradient is then summed over its responses in the type that came.
    keys, values = (states[0].transpose(0, 1).index_select(0, sequences.keys).to(dtype) for states in (key, value))
    return flash(query[0].transpose(0, 1).to(dtype), keys, values, sequences, dropout, scaling).unsqueeze(0)


def flash(
    query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, dropout: float, scaling: float | None
) -> Tensor:
    """Return the kernel's output [L, heads, d] for queries [L, heads, d] and gathered keys and values [M, heads, d]."""
    return torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        sequences.query_ends,
        sequences.key_ends,
        sequences.most_queries,
        sequences.most_keys,
        dropout,
        True,
        False,
        scale=scaling,
    )[0]
