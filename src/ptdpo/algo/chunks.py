"""Chunk-wise arithmetic of a language-model head: products, log-sum-exp and Top-K over one piece of the logits."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ptdpo.algo.shapes import Float, Int

# Element-wise work goes over pieces of this many numbers, which stay in a core's cache.
CACHED = 262_144
# On a GPU pieces cost launches and save nothing.
WHOLE = 2**62
# Stands for -inf where inf - inf would make NaN; its exponential is 0 all the same.
NEVER = -1e30
# Top-K ids are searched among the blocks with the largest maxima instead of the whole row.
_BLOCK = 64
_LOG2_E = 1.4426950408889634


def piece(tensor: Tensor) -> int:
    """Return how many numbers element-wise work takes at once."""
    return WHOLE if tensor.is_cuda else CACHED


def slices(total: int, size: int) -> Iterator[slice]:
    """Yield slices of at most ``size`` that cover ``range(total)``."""
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the type that logits of such operands are held in: float32 or wider."""
    return torch.promote_types(dtype, torch.float32)


def product(a: Float[Tensor, "m k"], b: Float[Tensor, "k n"], out: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """Return a @ b in ``out``, which is float32 or wider; operands narrower than that are not rounded further."""
    if a.dtype == out.dtype:
        return torch.mm(a, b, out=out)
    if a.is_cuda:
        return torch.mm(a, b, out_dtype=out.dtype, out=out)
    for columns in slices(b.size(1), max(1, CACHED * 8 // max(1, b.size(0)))):
        torch.mm(a.to(out.dtype), b[:, columns].to(out.dtype), out=out[:, columns])
    return out


def add_product(out: Float[Tensor, "m n"], a: Float[Tensor, "m k"], b: Float[Tensor, "k n"]) -> None:
    """Add a @ b to ``out``; ``a`` is float32 or wider, ``b`` and ``out`` may be narrower."""
    if a.dtype == b.dtype == out.dtype:
        out.addmm_(a, b)
    elif a.is_cuda and b.dtype != a.dtype:
        out.add_(torch.mm(a.to(b.dtype), b, out_dtype=a.dtype))
    else:
        out.add_(torch.mm(a, b.to(a.dtype)))


def float_logits(
    states: Float[Tensor, "n hidden"],
    weight: Float[Tensor, "vocab hidden"],
    bias: Float[Tensor, " vocab"] | None,
    temperature: float,
) -> Float[Tensor, "n vocab"]:
    """Return differentiable logits in float32 or wider, of operands rounded as autocast would round them."""
    device = states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    with torch.autocast(device, enabled=False):
        states, weight = (operand.to(dtype).to(wide(dtype)) for operand in (states, weight))
        return torch.nn.functional.linear(states, weight, None if bias is None else bias.to(states.dtype)) / temperature


@dataclass(frozen=True, slots=True)
class ChunkedHead:
    """A head: logits = (states weightᵀ + bias) / temperature, with weight [V, H] and bias [V] or ``None``."""

    weight: Float[Tensor, "vocab hidden"]
    bias: Float[Tensor, " vocab"] | None
    temperature: float

    @property
    def vocabulary(self) -> int:
        """Return V."""
        return self.weight.size(0)

    def buffer(self, states: Float[Tensor, "n hidden"], rows: int) -> Float[Tensor, "rows width"]:
        """Return room for the logits of so many rows: whole blocks of ids, -inf beyond the vocabulary."""
        width = -(-self.vocabulary // _BLOCK) * _BLOCK
        buffer = states.new_empty(min(rows, max(len(states), 1)), width, dtype=wide(states.dtype))
        buffer[:, self.vocabulary :] = -torch.inf
        return buffer

    def logits(
        self, states: Float[Tensor, "rows hidden"], out: Float[Tensor, "rows ids"], ids: slice = slice(None)
    ) -> Float[Tensor, "rows ids"]:
        """Write the logits of some rows [r, H] and ids into ``out`` [r, ids] and return it."""
        product(states, self.weight[ids].t(), out)
        if self.bias is not None:
            out.add_(self.bias[ids].to(out.dtype).clamp_min(NEVER))
        return out if self.temperature == 1.0 else out.div_(self.temperature)


def exp_(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Exponentiate in place. On a CPU float32 takes the way over 2^x, which is three times as fast."""
    if x.dtype == torch.float32 and x.device.type == "cpu":
        return x.mul_(_LOG2_E).exp2_()
    return x.exp_()


def log_total(logits: Float[Tensor, "rows ids"]) -> Float[Tensor, " rows"]:
    """Return the log-sum-exp of each row; logits at or below ``NEVER`` count as absent, -inf where all are."""
    top = logits.amax(dim=-1, keepdim=True)
    total = top.new_zeros(len(logits))
    for ids in _cached(logits):
        total += exp_(logits[:, ids] - top).sum(dim=-1)
    top = top.squeeze(-1)
    return (top + total.log()).masked_fill(top <= NEVER / 2, -torch.inf)


def log_sum(logits: Float[Tensor, "rows ids"]) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Return L of ``log_total``, and the mean of logit - L under each row's softmax, which is minus the entropy.

    A row without any logit has mean 0.
    """
    top = logits.amax(dim=-1, keepdim=True)
    total, weighted = top.new_zeros(2, len(logits))
    for ids in _cached(logits):
        below = logits[:, ids] - top
        share = exp_(below.clone())
        total += share.sum(dim=-1)
        weighted += below.mul_(share).sum(dim=-1)
    top = top.squeeze(-1)
    absent = top <= NEVER / 2
    log_total = total.log()
    return (top + log_total).masked_fill(absent, -torch.inf), (weighted / total - log_total).masked_fill(absent, 0.0)


def _cached(logits: Float[Tensor, "rows ids"]) -> Iterator[slice]:
    """Yield slices of the ids over which element-wise work stays in a core's cache."""
    return slices(logits.size(1), max(1, piece(logits) // max(1, len(logits))))


def topk_ids(padded: Float[Tensor, "rows width"], vocabulary: int, k: int) -> Int[Tensor, "rows k"]:
    """Return the ids [r, k] of each row's largest logits, the largest first.

    Args:
        padded: [r, whole blocks], -inf beyond the vocabulary.
        vocabulary: V.
        k: how many, at most V.
    """
    blocks = padded.view(len(padded), -1, _BLOCK)
    # Every one of the k largest lies in one of the k blocks with the largest maxima.
    if blocks.size(1) <= 2 * k:
        return padded[:, :vocabulary].topk(k, dim=-1).indices
    best = blocks.amax(dim=-1).topk(k, dim=-1).indices
    first = torch.arange(len(blocks), device=blocks.device).unsqueeze(-1) * blocks.size(1)
    candidates = blocks.flatten(0, 1).index_select(0, (first + best).flatten()).view(len(blocks), -1)
    chosen = candidates.topk(k, dim=-1).indices
    return best.gather(1, chosen // _BLOCK) * _BLOCK + chosen % _BLOCK
