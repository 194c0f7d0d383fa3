"""The fused tutored LM head: log-probability, entropy and exact Top-K divergence without holding the logits.

``teacher_topk`` reduces the teacher's logits to what the divergence needs; ``token_stats`` scores the student and
compares the two. Neither ever holds [N, V]: the forward pass holds the logits of ``row_chunk`` tokens, the backward
pass recomputes those of ``vocab_chunk`` ids. Gradients to hidden states, weight and bias are exact. The readable
version of the same divergence is ``ptdpo.algo.divergence.topk_divergence``.

This module needs nothing but torch and its readable sibling, and knows nothing of trainers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from ptdpo.algo.divergence import Kind, Support, Tail, check_settings, divergence_of, divergence_slope, is_in

# Logits held at once, in numbers: 80 MB in float32.
_FORWARD_LOGITS = 20_000_000
_BACKWARD_LOGITS = 8_000_000
# Rows that share one pass over the vocabulary in the backward pass.
_BACKWARD_ROWS = 4_096
# Element-wise work goes over pieces of this many numbers, which stay in a core's cache.
_CACHED = 262_144
# Top-K ids are searched among the blocks with the largest maxima instead of the whole row.
_BLOCK = 64
# Stands for -inf where inf - inf would make NaN; its exponential is 0 all the same.
_NEVER = -1e30


@dataclass(frozen=True, slots=True)
class TeacherTopK:
    """What remains of a teacher's next-token distributions; n tokens, no gradient.

    Its probabilities at other ids are not lost: ``log_probs_at`` computes single ones from the hidden states.

    Attributes:
        hidden: [n, H], the last hidden states.
        ids: [n, k], the Top-K ids, largest logit first.
        log_probs: [n, k], log q of those ids.
        log_rest: [n], log of the mass outside them; ``-inf`` if nothing is outside.
        log_normaliser: [n], log-sum-exp of the logits.
        temperature: by which the logits were divided.
        weight: [V, H], the head; ``None`` while the record is stored without it.
        bias: [V] or ``None``.
    """

    hidden: Tensor
    ids: Tensor
    log_probs: Tensor
    log_rest: Tensor
    log_normaliser: Tensor
    temperature: float
    weight: Tensor | None = None
    bias: Tensor | None = None

    def __len__(self) -> int:
        return self.ids.size(0)

    def __getitem__(self, rows: Any) -> "TeacherTopK":
        """Return the record of some tokens."""
        return self._map(lambda tensor: tensor[rows])

    def to(self, device: torch.device | str) -> "TeacherTopK":
        """Return the record with its per-token tensors on a device."""
        return self._map(lambda tensor: tensor.to(device))

    def with_head(self, weight: Tensor | None, bias: Tensor | None = None) -> "TeacherTopK":
        """Return the record with this head, or without one."""
        return replace(self, weight=weight, bias=bias)

    def log_probs_at(self, ids: Tensor) -> Tensor:
        """Return log q [n, s] at any ids [n, s], by one dot product each."""
        assert self.weight is not None, "the record was stored without its head"
        values = torch.empty(ids.shape, dtype=self.log_probs.dtype, device=ids.device)
        step = max(1, _CACHED * 8 // max(1, ids.size(1) * self.weight.size(1)))
        for rows in _slices(len(self), step):
            states, chosen = self.hidden[rows].to(values.dtype), self.weight[ids[rows]].to(values.dtype)
            values[rows] = torch.bmm(chosen, states.unsqueeze(-1)).squeeze(-1)
        if self.bias is not None:
            values += self.bias[ids].to(values.dtype).clamp_min(_NEVER)
        return values / self.temperature - self.log_normaliser.unsqueeze(-1)

    def _map(self, change: Any) -> "TeacherTopK":
        names = ("hidden", "ids", "log_probs", "log_rest", "log_normaliser")
        return replace(self, **{name: change(getattr(self, name)) for name in names})


def concatenate(records: list[TeacherTopK]) -> TeacherTopK:
    """Return one record of all tokens, in order, with the head of the first.

    Raises:
        ValueError: if there is no record, or they differ in k or temperature.
    """
    if not records:
        raise ValueError("there is no teacher record to concatenate")
    first = records[0]
    for other in records:
        if other.ids.size(1) != first.ids.size(1) or other.temperature != first.temperature:
            raise ValueError("teacher records to concatenate must share k and temperature")
    names = ("hidden", "ids", "log_probs", "log_rest", "log_normaliser")
    return replace(first, **{name: torch.cat([getattr(r, name) for r in records]) for name in names})


class TokenStats(NamedTuple):
    """What ``token_stats`` returns; N tokens, n of them compared, in the order of ``rows``.

    Attributes:
        log_prob: [N], log-probability of the target; differentiable.
        entropy: [N], entropy of the next-token distribution in nats; differentiable.
        divergence: [n], as ``topk_divergence``; differentiable.
        overlap: [n], share of the student's Top-K ids that the teacher's Top-K holds too.
        student_tail: [n], student mass outside the support.
        teacher_tail: [n], teacher mass outside the support.
    """

    log_prob: Tensor
    entropy: Tensor
    divergence: Tensor
    overlap: Tensor
    student_tail: Tensor
    teacher_tail: Tensor


@torch.no_grad()
def teacher_topk(
    hidden: Float[Tensor, "n hidden"],
    weight: Float[Tensor, "vocab hidden"],
    bias: Float[Tensor, " vocab"] | None = None,
    *,
    k: int = 100,
    temperature: float = 1.0,
    row_chunk: int | None = None,
) -> TeacherTopK:
    """Reduce a teacher's distributions softmax((hidden weightᵀ + bias) / temperature) to their Top-K.

    Args:
        hidden: last hidden states of the tokens to teach.
        weight: the head.
        bias: the head's bias.
        k: how many ids to keep; larger than the vocabulary means all.
        temperature: the sampling temperature.
        row_chunk: tokens whose logits are held at once; chosen by memory by default.

    Raises:
        ValueError: for k < 1, a temperature that is not positive, integer or NaN hidden states, sizes that differ.
    """
    _check_head("teacher", hidden, weight, bias, temperature)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    k = min(k, weight.size(0))
    head = _Head(weight, bias, temperature)
    n, dtype = hidden.size(0), _wide(hidden)
    ids = torch.empty(n, k, dtype=torch.int32, device=hidden.device)
    log_probs = hidden.new_empty(n, k, dtype=dtype)
    log_rest, log_normaliser = hidden.new_empty(2, n, dtype=dtype)
    for rows in _slices(n, row_chunk or head.rows_at_once):
        logits = head.logits(hidden[rows])
        chosen = _topk_ids(logits, k)
        kept = logits.gather(-1, chosen)
        rest = _log_sum_outside(logits, chosen).normaliser
        total = torch.logaddexp(kept.logsumexp(dim=-1), rest)
        ids[rows], log_probs[rows] = chosen.int(), kept - total.unsqueeze(-1)
        log_rest[rows], log_normaliser[rows] = rest - total, total
    return TeacherTopK(hidden, ids, log_probs, log_rest, log_normaliser, temperature, weight, bias)


def token_stats(
    hidden: Float[Tensor, "n hidden"],
    weight: Float[Tensor, "vocab hidden"],
    targets: Int[Tensor, " n"],
    bias: Float[Tensor, " vocab"] | None = None,
    *,
    teacher: TeacherTopK | None = None,
    rows: Int[Tensor, " tutored"] | None = None,
    k: int = 100,
    temperature: float = 1.0,
    kind: Kind = "jsd",
    support: Support = "union",
    tail: Tail = "bucket",
    row_chunk: int | None = None,
    vocab_chunk: int | None = None,
) -> TokenStats:
    """Score tokens and compare some of them with a teacher, in one pass over the hidden states.

    The student's distribution is softmax((hidden weightᵀ + bias) / temperature). The divergence is that of
    ``topk_divergence`` with the same settings, (13) to (17), (35), (37); no gradient reaches the teacher.

    Args:
        hidden: the student's last hidden states; receives a gradient.
        weight: the head; receives a gradient.
        targets: the ids whose log-probability is wanted.
        bias: the head's bias; receives a gradient.
        teacher: the teacher at ``rows``, in that order; its ``k`` may differ from the student's.
        rows: which tokens are compared, each once; ``None`` with a teacher means all.
        k: size of the student's Top-K.
        temperature: the sampling temperature.
        kind: ``jsd``, ``forward_kl`` or ``reverse_kl``.
        support: ``union``, ``student`` or ``teacher``.
        tail: ``bucket`` or ``none``.
        row_chunk: tokens whose logits the forward pass holds; chosen by memory by default.
        vocab_chunk: ids whose logits the backward pass holds; chosen by memory by default.

    Raises:
        ValueError: for settings out of range, sizes that do not fit, rows out of range or given twice, targets
            outside the vocabulary, a teacher of another vocabulary, or integer or NaN hidden states.
    """
    _check_head("student", hidden, weight, bias, temperature)
    _check_targets(targets, hidden, weight)
    check_settings(k, kind, support, tail)
    rows = _check_rows(rows, teacher, hidden, weight, temperature)
    how = _How(min(k, weight.size(0)), temperature, kind, support, tail, row_chunk, vocab_chunk)
    return TokenStats(*_TokenStats.apply(hidden, weight, bias, targets, rows, teacher, how))


class _How(NamedTuple):
    k: int
    temperature: float
    kind: Kind
    support: Support
    tail: Tail
    row_chunk: int | None
    vocab_chunk: int | None


class _Compared(NamedTuple):
    """What the backward pass needs of the compared tokens."""

    ids: Tensor  # [n, s], the support
    slope: Tensor  # [n, s], dD / d log p at those ids, 0 where an id is counted elsewhere in the row
    tail_slope: Tensor  # [n], dD / d log p of the tail
    log_tail: Tensor  # [n], log-sum-exp of the logits outside the support; of all logits without a tail
    log_inside: Tensor  # [n], log-sum-exp of the logits inside the support


class _TokenStats(torch.autograd.Function):
    """d log p(t) / dz_v = [v = t] - p_v,  dH / dz_v = -p_v (log p_v + H), and with s_v = dD / d log p_v

    inside the support dD / dz_v = s_v - p_v sum(s), outside it dD / dz_v = s_tail p_v / p_tail - p_v sum(s).
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        rows: Tensor,
        teacher: TeacherTopK | None,
        how: _How,
    ) -> tuple[Tensor, ...]:
        head = _Head(weight, bias, how.temperature)
        scan = _Scan(hidden, head, targets, how)
        compared = _compare_rows(scan, rows, teacher)
        scan.score(_others(rows, hidden.size(0)))
        ctx.how = how
        ctx.save_for_backward(
            hidden, weight, bias, targets, rows, scan.normaliser, scan.entropy, *(compared.saved if compared else ())
        )
        ctx.set_materialize_grads(False)
        empty = scan.log_prob.new_empty(0)
        divergence, *metrics = compared.reported if compared else (empty, empty.clone(), empty.clone(), empty.clone())
        ctx.mark_non_differentiable(*metrics)
        return scan.log_prob, scan.entropy, divergence, *metrics
