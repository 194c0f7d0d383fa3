"""The fused head with Triton's kernels: the same numbers as ``ptdpo.algo.fused``, and no synchronisation.

The forward pass writes the logits of ``row_chunk`` tokens once and reads them twice. Where memory allows, it keeps each
token's shares e^(z - c) in the type of the operands, from which the backward pass makes the gradient of the logits in
place; other tokens' logits are computed again. Products are the library's.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ptdpo.algo.chunks import ChunkedHead, slices
from ptdpo.algo.shapes import Bool, Float, Int
from ptdpo.algo.support import ComparedTokens, HeadSettings, Slopes, compare_at, support_ids
from ptdpo.algo.teacher_topk import TeacherTopK
from ptdpo.algo.triton_calls import (
    LogitGradient,
    Scan,
    Supports,
    fill_gradient,
    keep_shares,
    logits_at,
    place_values,
    raw_buffer,
    raw_logits,
    rows_at_once,
    scan_logits,
    share_buffer,
)

# Compared tokens whose supports are worked on at once: [tokens, k, k] is held.
_COMPARED = 8_192


class _Tokens(NamedTuple):
    """Per token in working order, compared ones first, what the gradient of its logits is made of."""

    log_outside: Float[Tensor, " n"]  # log-sum-exp of the logits outside the support; of all if not compared
    ceiling: Float[Tensor, " n"]  # c, at least every logit outside the support
    log_sum: Float[Tensor, " n"]
    entropy: Float[Tensor, " n"]
    target_logit: Float[Tensor, " n"]


class TritonTeacher(NamedTuple):
    """A teacher's Top-K as ``TeacherTopK`` wants it: ids and log-probabilities, largest first, and two sums."""

    ids: Int[Tensor, "n k"]
    log_probs: Float[Tensor, "n k"]
    log_rest: Float[Tensor, " n"]
    log_normaliser: Float[Tensor, " n"]


def reduced(hidden: Float[Tensor, "n hidden"], head: ChunkedHead, k: int, row_chunk: int) -> TritonTeacher:
    """Reduce a teacher's distributions; every logit is read once."""
    buffer = raw_buffer(hidden, head, row_chunk)
    scans = []
    for rows in slices(len(hidden), len(buffer)):
        raw = raw_logits(hidden[rows], head, buffer)
        scans.append(scan_logits(raw, head, k, entropy=False))
    scan = Scan(*(torch.cat(column) for column in zip(*scans, strict=True))) if scans else _empty_scan(buffer, k)
    logits, order = scan.logits.sort(dim=-1, descending=True, stable=True)
    log_normaliser = scan.log_sum
    return TritonTeacher(
        scan.ids.gather(-1, order),
        logits - log_normaliser.unsqueeze(-1),
        scan.log_rest - log_normaliser,
        log_normaliser,
    )


class TritonStats(torch.autograd.Function):
    """``ptdpo.algo.fused.FusedStats`` by other means; gradients as derived there."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden: Float[Tensor, "n hidden"],
        weight: Float[Tensor, "vocab hidden"],
        bias: Float[Tensor, " vocab"] | None,
        targets: Int[Tensor, " n"],
        rows: Int[Tensor, " tutored"],
        teacher: TeacherTopK | None,
        settings: HeadSettings,
    ) -> tuple[Tensor, ...]:
        """Return log-probabilities [N], entropies [N], and divergence, overlap, both tails [n]."""
        head = ChunkedHead(weight, bias, settings.temperature)
        order = _compared_first(rows, len(hidden))
        shares = share_buffer(hidden, head, settings.keep)
        tokens, supports, student_ids = _read(hidden[order], targets[order], head, teacher, settings, shares)
        compared = _compare(tokens, supports, student_ids, teacher, settings)
        log_prob, entropy = torch.empty_like(tokens.entropy), torch.empty_like(tokens.entropy)
        log_prob[order], entropy[order] = tokens.target_logit - tokens.log_sum, tokens.entropy
        ctx.temperature, ctx.shares = settings.temperature, shares
        ctx.save_for_backward(hidden, weight, bias, targets, order, *tokens, *supports, *compared.slopes)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*compared[1:4])
        return (log_prob, entropy, *compared[:4])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Return the gradients of the arguments of ``forward``; a second call computes all logits again."""
        hidden, weight, bias, targets, order, *rest = ctx.saved_tensors
        tokens, supports, slopes = _Tokens(*rest[:5]), Supports(*rest[5:8]), Slopes(*rest[8:])
        shares, ctx.shares = ctx.shares, None
        scaled = [None if grad is None else grad / ctx.temperature for grad in grads[:3]]
        upstream = [None if grad is None else grad[order] for grad in scaled[:2]] + scaled[2:]
        with torch.autocast(hidden.device.type, enabled=False):
            head = ChunkedHead(weight, bias, ctx.temperature)
            gradient = _logit_gradient(upstream, targets[order], tokens, supports, slopes)
            blocks = _blocks(hidden[order], targets[order], head, gradient, supports, shares)
            sums = _products(head, hidden, order, blocks, ctx.needs_input_grad[:3])
        return (*sums, None, None, None, None)


def _read(
    states: Float[Tensor, "n hidden"],
    targets: Int[Tensor, " n"],
    head: ChunkedHead,
    teacher: TeacherTopK | None,
    settings: HeadSettings,
    shares: Float[Tensor, "kept width"] | None,
) -> tuple[_Tokens, Supports, Int[Tensor, "m k"]]:
    """Read the logits of all tokens, compared ones first; fill ``shares`` with those of the first tokens."""
    buffer = raw_buffer(states, head, settings.row_chunk)
    compared = 0 if teacher is None else len(teacher)
    tokens, supports, student_ids = [], [], []
    for rows in _parts(len(states), compared, len(buffer)):
        raw = raw_logits(states[rows], head, buffer)
        target_logit = logits_at(raw, head, targets[rows].unsqueeze(-1)).squeeze(-1)
        here = None if shares is None else shares[rows]
        if teacher is not None and rows.start < compared:
            scan = scan_logits(raw, head, settings.k, entropy=True)
            ids, counted = support_ids(scan.ids, teacher.ids[rows].long(), settings.support)
            inside = logits_at(raw, head, ids).masked_fill(~counted, -torch.inf)
            ceiling = _highest_outside(scan, ids, counted)
            raw.scatter_(-1, ids, -torch.inf)
            log_outside = keep_shares(raw, head, ceiling, here)
            supports.append(Supports(ids, counted, inside - scan.log_sum.unsqueeze(-1)))
            student_ids.append(scan.ids)
        else:
            scan = scan_logits(raw, head, 0, entropy=True)
            ceiling, log_outside = scan.largest, scan.log_sum
            if here is not None and len(here):
                keep_shares(raw, head, ceiling, here)
        tokens.append(_Tokens(log_outside, ceiling, scan.log_sum, -scan.mean, target_logit))
    none, no_ids = buffer.new_empty(0), targets.new_empty(0, 1)
    empty = Supports(no_ids, no_ids.bool(), none.view(0, 1))
    return (
        _Tokens(*_joined(tokens, tuple(none.clone() for _ in _Tokens._fields))),
        Supports(*_joined(supports, empty)),
        torch.cat(student_ids) if student_ids else no_ids,
    )


def _compare(
    tokens: _Tokens,
    supports: Supports,
    student_ids: Int[Tensor, "m k"],
    teacher: TeacherTopK | None,
    settings: HeadSettings,
) -> ComparedTokens:
    """Compare the first tokens with the teacher."""
    results = []
    for rows in slices(0 if teacher is None else len(teacher), _COMPARED):
        assert teacher is not None
        outside = tokens.log_outside[rows] - tokens.log_sum[rows]
        found = compare_at(
            supports.log_p[rows], outside, supports.counted[rows], student_ids[rows], teacher[rows], settings
        )
        results.append((*found[:4], *found.slopes))
    none = tokens.log_sum.new_empty(0)
    columns = _joined(results, (*(none.clone() for _ in range(4)), none.view(0, 1), none, none))
    divergence, overlap, student_tail, teacher_tail, *slopes = columns
    return ComparedTokens(divergence, overlap, student_tail, teacher_tail, Slopes(*slopes))


def _logit_gradient(
    grads: Sequence[Tensor | None], targets: Int[Tensor, " n"], tokens: _Tokens, supports: Supports, slopes: Slopes
) -> LogitGradient:
    """Combine what the three outputs receive, the first two in working order, into the gradient of the logits."""
    count = len(supports.ids)
    to_log_prob = torch.zeros_like(tokens.log_sum) if grads[0] is None else grads[0]
    to_divergence = torch.zeros_like(slopes.total) if grads[2] is None else grads[2]
    outside = torch.where(tokens.log_outside > -torch.inf, tokens.log_outside, tokens.log_sum)
    log_mass = outside - tokens.log_sum
    common = to_log_prob[:count] + to_divergence * slopes.total
    p = supports.log_p.exp()
    values = to_divergence.unsqueeze(-1) * slopes.inside - p * common.unsqueeze(-1)
    first = to_divergence * slopes.outside - log_mass[:count].exp() * common
    scale, slant = torch.cat([first, -to_log_prob[count:]]), None
    if grads[1] is not None:
        slant = -grads[1] * log_mass.exp()
        scale = scale + slant * (tokens.entropy + log_mass)
        excess = torch.xlogy(p, p) + p * tokens.entropy[:count].unsqueeze(-1)
        values = values - grads[1][:count].unsqueeze(-1) * excess
    x = (tokens.target_logit - outside).clamp_min(torch.finfo(outside.dtype).min / 4)
    at_target = x.exp() * (scale if slant is None else scale + slant * x)
    inside = (supports.ids == targets[:count].unsqueeze(-1)) & supports.counted
    named = values.masked_fill(~inside, 0.0).sum(dim=-1)
    at_target = torch.cat([torch.where(inside.any(dim=-1), named, at_target[:count]), at_target[count:]])
    return LogitGradient(outside, tokens.ceiling - outside, scale, slant, values, at_target + to_log_prob)


def _blocks(
    states: Float[Tensor, "n hidden"],
    targets: Int[Tensor, " n"],
    head: ChunkedHead,
    gradient: LogitGradient,
    supports: Supports,
    shares: Float[Tensor, "kept width"] | None,
) -> Iterator[tuple[slice, Float[Tensor, "rows vocab"]]]:
    """Yield (tokens, gradient of their logits); the tensor is reused. The kept shares become the first block."""
    kept = 0 if shares is None else len(shares)
    room = share_buffer(states, head, True) if shares is None else shares
    assert room is not None
    for rows in slices(len(states), max(1, len(room))):
        block = room[: rows.stop - rows.start]
        if rows.start < kept:
            fill_gradient(block, head, gradient, rows, None)
        else:
            buffer = raw_buffer(states, head, rows_at_once(head.vocabulary))
            for part in slices(len(block), len(buffer)):
                here = slice(rows.start + part.start, rows.start + part.stop)
                fill_gradient(block[part], head, gradient, here, raw_logits(states[here], head, buffer))
            del buffer
        place_values(block, gradient, supports, rows)
        here = block[:, : head.vocabulary]
        here.scatter_(-1, targets[rows].unsqueeze(-1), gradient.at_target[rows].to(here.dtype).unsqueeze(-1))
        yield rows, here


def _products(
    head: ChunkedHead,
    hidden: Float[Tensor, "n hidden"],
    order: Int[Tensor, " n"],
    blocks: Iterator[tuple[slice, Float[Tensor, "rows vocab"]]],
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of hidden states, weight and bias, as far as they are needed."""
    to_hidden = torch.zeros_like(hidden) if needed[0] else None
    to_weight = to_bias = None
    for rows, to_logits in blocks:
        if to_hidden is not None:
            to_hidden[order[rows]] = to_logits @ head.weight
        if needed[1]:
            states = hidden[order[rows]]
            to_weight = to_logits.t() @ states if to_weight is None else to_weight.addmm_(to_logits.t(), states)
        if head.bias is not None and needed[2]:
            total = to_logits.sum(dim=0, dtype=torch.promote_types(to_logits.dtype, torch.float32))
            to_bias = total if to_bias is None else to_bias + total
    if needed[1] and to_weight is None:
        to_weight = torch.zeros_like(head.weight)
    if head.bias is not None and needed[2]:
        to_bias = torch.zeros_like(head.bias) if to_bias is None else to_bias.to(head.bias.dtype)
    return to_hidden, to_weight, to_bias


def _highest_outside(scan: Scan, ids: Int[Tensor, "r s"], counted: Bool[Tensor, "r s"]) -> Float[Tensor, " r"]:
    """Return the largest of the Top-K logits outside the support, or if there is none the least of them."""
    named = ((scan.ids.unsqueeze(-1) == ids.unsqueeze(-2)) & counted.unsqueeze(-2)).any(dim=-1)
    least = scan.logits.amin(dim=-1)
    highest = scan.logits.masked_fill(named, -torch.inf).amax(dim=-1)
    return torch.maximum(highest, least).clamp_min(torch.finfo(least.dtype).min / 4)


def _compared_first(rows: Int[Tensor, " tutored"], total: int) -> Int[Tensor, " n"]:
    """Return an order of all tokens that begins with ``rows``."""
    others = torch.ones(total, dtype=torch.int32, device=rows.device).index_fill_(0, rows, 0)
    return torch.cat([rows, others.argsort(descending=True, stable=True)[: total - rows.numel()]])


def _parts(total: int, compared: int, size: int) -> Iterator[slice]:
    """Yield slices of at most ``size``, none of which holds compared and other tokens."""
    yield from slices(compared, size)
    for rest in slices(total - compared, size):
        yield slice(compared + rest.start, compared + rest.stop)


def _joined(pieces: Sequence[tuple[Tensor, ...]], empty: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(torch.cat(column) for column in zip(*pieces, strict=True)) if pieces else tuple(empty)


def _empty_scan(buffer: Tensor, k: int) -> Scan:
    none, ids = buffer.new_empty(0), torch.empty(0, k, dtype=torch.long, device=buffer.device)
    return Scan(none, none, none, ids, buffer.new_empty(0, k), none)
