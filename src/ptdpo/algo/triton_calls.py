"""What Triton's kernels are called with: one function per kernel, and the room that they write to.

``raw`` logits are what the product left: without bias and temperature, which the kernels apply as they read.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ptdpo.algo import kernels as _kernels
from ptdpo.algo.chunks import ChunkedHead, product
from ptdpo.algo.shapes import Bool, Float, Int

# Shares kept for the backward pass, in bytes: 8,832 tokens of 151,936 ids in bfloat16.
KEPT_BYTES = 2_700_000_000
kernels: Any = _kernels  # what Triton makes of their signatures has no types
_BLOCK: int = kernels.BLOCK.value
_PART = 4_096


class Scan(NamedTuple):
    """What one reading of logits [r, V] leaves per token."""

    log_sum: Float[Tensor, " r"]
    mean: Float[Tensor, " r"]  # of z - log_sum under the softmax: minus the entropy
    largest: Float[Tensor, " r"]
    ids: Int[Tensor, "r k"]  # the Top-K, in the order of the ids; k = 0 if not asked for
    logits: Float[Tensor, "r k"]
    log_rest: Float[Tensor, " r"]  # log-sum-exp of all others


class Supports(NamedTuple):
    """The supports of the compared tokens."""

    ids: Int[Tensor, "m s"]
    counted: Bool[Tensor, "m s"]
    log_p: Float[Tensor, "m s"]  # -inf where an id does not count


class LogitGradient(NamedTuple):
    """The gradient of the logits: e^x (scale + slant x) outside the support, x = z - log_outside, and single values."""

    log_outside: Float[Tensor, " n"]
    offset: Float[Tensor, " n"]  # ceiling - log_outside
    scale: Float[Tensor, " n"]
    slant: Float[Tensor, " n"] | None
    values: Float[Tensor, "m s"]
    at_target: Float[Tensor, " n"]


def rows_at_once(vocabulary: int) -> int:
    """Return how many tokens' raw logits are held: some 320 MB in float32, and enough rows for an efficient product."""
    return max(128, 80_000_000 // vocabulary // 128 * 128)


def raw_buffer(states: Float[Tensor, "n hidden"], head: ChunkedHead, rows: int) -> Float[Tensor, "r vocab"]:
    """Return room for the raw logits of at most so many tokens, in float32 or wider."""
    dtype = torch.promote_types(states.dtype, torch.float32)
    return states.new_empty(min(rows, max(1, len(states))), head.vocabulary, dtype=dtype)


def share_buffer(
    states: Float[Tensor, "n hidden"], head: ChunkedHead, keep: bool
) -> Float[Tensor, "kept width"] | None:
    """Return room for the shares of as many tokens as ``KEPT_BYTES`` allows; rows are padded to whole blocks."""
    if not keep:
        return None
    width = _ceil(head.vocabulary, _BLOCK) * _BLOCK
    rows = min(len(states), max(1, KEPT_BYTES // (width * states.element_size())))
    return states.new_empty(rows, width)


def raw_logits(states: Float[Tensor, "r hidden"], head: ChunkedHead, buffer: Tensor) -> Float[Tensor, "r vocab"]:
    """Write the raw logits of some tokens into the buffer and return them."""
    return product(states, head.weight.t(), buffer[: len(states)])


def logits_at(raw: Float[Tensor, "r vocab"], head: ChunkedHead, ids: Int[Tensor, "r s"]) -> Float[Tensor, "r s"]:
    """Return the logits at some ids."""
    z = raw.gather(-1, ids)
    if head.bias is not None:
        z = z + head.bias[ids].to(z.dtype)
    return z / head.temperature


def scan_logits(raw: Float[Tensor, "r vocab"], head: ChunkedHead, k: int, *, entropy: bool) -> Scan:
    """Read the raw logits [r, V] of some tokens."""
    rows, blocks = len(raw), _ceil(head.vocabulary, _BLOCK)
    tops, totals = raw.new_empty(2, rows, blocks)
    weighted = raw.new_empty(rows, blocks) if entropy else tops
    step = min(64, _power_of_2(blocks))
    reading = (raw, raw.stride(0), _or(head.bias, raw), head.vocabulary)
    biased = head.bias is not None
    kernels.scan_blocks[(rows, _ceil(blocks, step))](
        *reading,
        tops,
        totals,
        weighted,
        blocks,
        TEMPERATURE=head.temperature,
        HAS_BIAS=biased,
        ENTROPY=entropy,
        STEP=step,
    )
    log_sum, mean, largest, log_rest = raw.new_empty(4, rows)
    count = min(k, blocks)
    chosen = torch.empty(rows, max(1, count), dtype=torch.int32, device=raw.device)
    width = _power_of_2(blocks)
    kernels.sum_blocks[(rows,)](
        tops, totals, weighted, blocks, log_sum, mean, largest, chosen, log_rest, count,
        ENTROPY=entropy, CHOOSE=k > 0, WIDTH=width, num_warps=8 if width >= 2_048 else 4,
    )  # fmt: skip
    ids = torch.empty(rows, k, dtype=torch.int32, device=raw.device)
    logits = raw.new_empty(rows, k)
    if k:
        width = _power_of_2(count)
        kernels.select_ids[(rows,)](
            *reading, chosen, count, ids, logits, log_rest, k,
            TEMPERATURE=head.temperature, HAS_BIAS=biased, WIDTH=width,
            num_warps=4 if width <= 32 else 8 if width <= 128 else 16,
        )  # fmt: skip
    return Scan(log_sum, mean, largest, ids.long(), logits, log_rest)


def keep_shares(
    raw: Float[Tensor, "r vocab"],
    head: ChunkedHead,
    ceiling: Float[Tensor, " r"],
    shares: Float[Tensor, "kept width"] | None,
) -> Float[Tensor, " r"]:
    """Return the log-sum-exp of the raw logits, and write the shares of the first tokens."""
    parts = _ceil(head.vocabulary, _PART)
    peaks, sums = raw.new_empty(2, len(raw), parts)
    kept = 0 if shares is None else len(shares)
    for rows, keep in ((slice(0, kept), True), (slice(kept, len(raw)), False)):
        if rows.start == rows.stop:
            continue
        room = raw[:1] if shares is None else shares
        kernels.keep_shares[(rows.stop - rows.start, parts)](
            raw[rows], raw.stride(0), _or(head.bias, raw), head.vocabulary,
            ceiling[rows], room, room.stride(0), peaks[rows], sums[rows], parts,
            TEMPERATURE=head.temperature, HAS_BIAS=head.bias is not None, KEEP=keep, SIZE=_PART,
        )  # fmt: skip
    return (peaks + sums.log()).logsumexp(dim=-1)


def fill_gradient(
    block: Float[Tensor, "r width"],
    head: ChunkedHead,
    gradient: LogitGradient,
    rows: slice,
    raw: Float[Tensor, "r vocab"] | None,
) -> None:
    """Write the gradient outside the supports, from raw logits or in place of the shares."""
    source, scale = block if raw is None else raw, gradient.scale[rows]
    slant = scale if gradient.slant is None else gradient.slant[rows]
    kernels.fill_gradient[(len(block), _ceil(head.vocabulary, _PART))](
        source, source.stride(0), _or(head.bias, scale), block, block.stride(0),
        head.vocabulary, gradient.log_outside[rows], gradient.offset[rows], scale, slant,
        TEMPERATURE=head.temperature, HAS_BIAS=head.bias is not None,
        FROM_LOGITS=raw is not None, SLANTED=gradient.slant is not None, SIZE=_PART,
    )  # fmt: skip


def place_values(block: Float[Tensor, "r width"], gradient: LogitGradient, supports: Supports, rows: slice) -> None:
    """Set the gradient at the supports of those tokens of a block that are compared."""
    count = min(rows.stop, len(supports.ids)) - rows.start
    if count <= 0:
        return
    here = slice(rows.start, rows.start + count)
    width = supports.ids.size(1)
    kernels.place_values[(count,)](
        block,
        block.stride(0),
        supports.ids[here].contiguous(),
        gradient.values[here].contiguous(),
        supports.counted[here].contiguous().view(torch.uint8),
        width,
        WIDTH=_power_of_2(width),
    )


def dots(
    states: Float[Tensor, "n hidden"],
    weight: Float[Tensor, "vocab hidden"],
    ids: Int[Tensor, "n s"],
    needed: Bool[Tensor, "n s"] | None,
    dtype: torch.dtype,
) -> Float[Tensor, "n s"]:
    """Return states · weight[ids] where needed, 0 elsewhere; rows of the head are read in place."""
    out = states.new_empty(ids.shape, dtype=dtype)
    if out.numel():
        needed = torch.ones_like(ids, dtype=torch.bool) if needed is None else needed
        hidden, slots = states.size(1), 16
        kernels.dot_at[(len(ids), _ceil(ids.size(1), slots))](
            states.contiguous(),
            weight.contiguous(),
            ids.contiguous(),
            needed.contiguous().view(torch.uint8),
            out,
            ids.size(1),
            HIDDEN=hidden,
            SLOTS=slots,
            SIZE=min(256, _power_of_2(hidden)),
        )
    return out


def _or(bias: Tensor | None, other: Tensor) -> Tensor:
    """Return a bias, or something to pass in its place."""
    return other if bias is None else bias


def _ceil(number: int, size: int) -> int:
    return -(-number // size)


def _power_of_2(number: int) -> int:
    """Return the least power of two that is not less."""
    return 1 << (number - 1).bit_length()
