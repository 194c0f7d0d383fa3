"""The autograd function behind ``ptdpo.algo.lm_head.token_stats``: forward by rows, backward by vocabulary."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ptdpo.algo.chunks import NEVER, ChunkedHead, add_product, exp_, piece, slices
from ptdpo.algo.shapes import Float, Int
from ptdpo.algo.support import ComparedTokens, HeadSettings, compare_at, support_ids
from ptdpo.algo.teacher_topk import TeacherTopK
from ptdpo.algo.vocabulary import Vocabulary

# Ids whose logits the backward pass holds at once, on a CPU and on a GPU.
_BACKWARD_IDS = 2048
_BACKWARD_IDS_GPU = 16_384
# Rows that share one pass over the vocabulary in the backward pass.
_BACKWARD_ROWS = 4_096


class _Support(NamedTuple):
    """The supports of the compared tokens; an id that both sides name stands in its row once."""

    id: Int[Tensor, "n s"]  # int32; -1 where nothing stands
    p: Float[Tensor, "n s"]  # student probability
    slope: Float[Tensor, "n s"]  # dD / d log p; anything where nothing stands

    @classmethod
    def room(cls, tokens: int, size: int, like: Tensor) -> "_Support":
        """Return room for so many tokens: joining pieces would hold every support twice."""
        return cls(like.new_empty(tokens, size, dtype=torch.int32), *like.new_empty(2, tokens, size))

    def keep(self, part: slice, found: "_Support") -> None:
        """Keep the supports of a part of the tokens."""
        for whole, new in zip(self, found, strict=True):
            whole[part] = new


class _Outside(NamedTuple):
    """Per compared token, what the backward pass needs of the mass outside the support."""

    log_outside: Float[Tensor, " n"]  # log-sum-exp of the student's logits there
    tail_slope: Float[Tensor, " n"]  # dD / d log of the student's mass there
    total_slope: Float[Tensor, " n"]  # sum of all slopes, inside and outside


class _LogitGradient(NamedTuple):
    """The gradient of N rows of logits: x = logit - shift gives exp(x) (scale + slant x), but for single entries."""

    shift: Float[Tensor, " n"]
    scale: Float[Tensor, " n"]
    slant: Float[Tensor, " n"] | None
    set_row: Int[Tensor, " m"]  # rows [m] in which the gradient of the ids [m, s] is value instead
    set_id: Int[Tensor, "m s"]  # -1: of none
    set_value: Float[Tensor, "m s"]
    targets: Int[Tensor, " n"]  # to whose gradient to_target is added
    to_target: Float[Tensor, " n"]


class FusedStats(torch.autograd.Function):
    """Gradients in closed form, from logits recomputed chunk by chunk.

    d log p_t / dz_v = [v = t] - p_v and dH / dz_v = -p_v (log p_v + H). With s_v = dD / d log p_v and r the mass
    outside the support, dD / dz_v is s_v - p_v sum(s) inside it and s_r p_v / r - p_v sum(s) outside it.
    """

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
        vocabulary: Vocabulary,
    ) -> tuple[Tensor, ...]:
        """Return log-probabilities [N], entropies [N], and divergence, overlap, both tails [n]."""
        head = ChunkedHead(weight, bias, settings.temperature)
        buffer = head.buffer(hidden, settings.row_chunk)
        log_prob, entropy, normaliser = buffer.new_empty(3, len(hidden))
        support = _Support.room(rows.numel(), 0 if teacher is None else settings.support_size(teacher), buffer)
        compared, outsides = [], []
        for part in slices(rows.numel(), len(buffer)):
            assert teacher is not None
            chunk = rows[part]
            padded = buffer[: len(chunk)]
            logits = head.logits(hidden[chunk], padded[:, : head.vocabulary])
            log_prob[chunk] = vocabulary.at(logits, targets[chunk].unsqueeze(-1)).squeeze(-1)
            found, results, outside, normaliser[chunk], entropy[chunk] = _compare(
                padded, logits, teacher[part], settings, vocabulary
            )
            support.keep(part, found)
            compared.append(results[:4])
            outsides.append(outside)
        for chunk in _others(rows, hidden).split(len(buffer)):
            logits = head.logits(hidden[chunk], buffer[: len(chunk), : head.vocabulary])
            log_prob[chunk] = vocabulary.at(logits, targets[chunk].unsqueeze(-1)).squeeze(-1)
            normaliser[chunk], mean = vocabulary.log_sum(logits)
            entropy[chunk] = -mean
        none = buffer.new_empty(0)
        results = _joined(compared, tuple(none.clone() for _ in range(4)))
        outside = _Outside(*_joined(outsides, (none, none, none)))
        ctx.temperature, ctx.vocab_chunk, ctx.vocabulary = settings.temperature, settings.vocab_chunk, vocabulary
        ctx.save_for_backward(hidden, weight, bias, targets, rows, normaliser, entropy, *support, *outside)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*results[1:4])
        return (log_prob - normaliser, entropy, *results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Return the gradients of the arguments of ``forward``."""
        # Unpacked once: under activation checkpointing unpacking recomputes.
        hidden, weight, bias, targets, rows, normaliser, entropy, *rest = ctx.saved_tensors
        head, support = ChunkedHead(weight, bias, ctx.temperature), _Support(*rest[:3])
        scaled = [None if grad is None else grad / ctx.temperature for grad in grads[:3]]
        gradient = _logit_gradient(scaled, targets, rows, normaliser, entropy, support, *rest[3:])
        width = _BACKWARD_IDS_GPU if hidden.is_cuda else _BACKWARD_IDS
        with torch.autocast(hidden.device.type, enabled=False):
            held = _held(gradient, ctx.vocabulary)
            sums = _products(head, hidden, held, ctx.vocab_chunk or width, ctx.needs_input_grad[:3])
            to_hidden = None if sums[0] is None else ctx.vocabulary.total(sums[0])
        return (to_hidden, *sums[1:], None, None, None, None, None)


def reduced(
    hidden: Float[Tensor, "n hidden"], head: ChunkedHead, k: int, row_chunk: int, vocabulary: Vocabulary
) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return ids, log_probs, log_rest and log_normaliser of ``TeacherTopK``, read ``row_chunk`` tokens at a time."""
    buffer = head.buffer(hidden, row_chunk)
    ids = torch.empty(len(hidden), k, dtype=torch.int32, device=hidden.device)
    log_probs = buffer.new_empty(len(hidden), k)
    log_rest, log_normaliser = buffer.new_empty(2, len(hidden))
    for rows in slices(len(hidden), len(buffer)):
        padded = buffer[: rows.stop - rows.start]
        logits = head.logits(hidden[rows], padded[:, : head.vocabulary])
        chosen = vocabulary.topk(padded, head.vocabulary, k)
        kept = vocabulary.at(logits, chosen)
        vocabulary.erase(logits, chosen)
        rest = vocabulary.log_total(logits)
        total = torch.logaddexp(kept.logsumexp(dim=-1), rest)
        ids[rows], log_probs[rows] = chosen.int(), kept - total.unsqueeze(-1)
        log_rest[rows], log_normaliser[rows] = rest - total, total
    return ids, log_probs, log_rest, log_normaliser


def _products(
    head: ChunkedHead, hidden: Float[Tensor, "n hidden"], gradient: _LogitGradient, chunk: int, needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of hidden states, weight and bias, as far as they are needed."""
    to_hidden, to_weight, to_bias = (
        torch.zeros_like(tensor) if tensor is not None and wanted else None
        for tensor, wanted in zip((hidden, head.weight, head.bias), needed, strict=True)
    )
    for block in slices(len(hidden), _BACKWARD_ROWS):
        states = hidden[block]
        # Sums over the vocabulary need float32; those over rows are complete within a block.
        sums = None if to_hidden is None else torch.zeros_like(states, dtype=gradient.shift.dtype)
        for ids, to_logits in _chunks(head, states, _of_block(gradient, block), chunk):
            if sums is not None:
                add_product(sums, to_logits, head.weight[ids])
            if to_weight is not None:
                add_product(to_weight[ids], to_logits.t(), states)
            if to_bias is not None:
                to_bias[ids] += to_logits.sum(dim=0)
        if to_hidden is not None and sums is not None:
            to_hidden[block] = sums
    return to_hidden, to_weight, to_bias


def _compare(
    padded: Float[Tensor, "n width"],
    logits: Float[Tensor, "n vocab"],
    teacher: TeacherTopK,
    settings: HeadSettings,
    vocabulary: Vocabulary,
) -> tuple[_Support, ComparedTokens, _Outside, Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Compare one chunk with its teacher; returns its normaliser and entropy too. Erases ``logits`` in the support."""
    student_ids = vocabulary.topk(padded, logits.size(1), settings.k)
    ids, counted = support_ids(student_ids, teacher.ids.long(), settings.support)
    inside = vocabulary.at(logits, ids).masked_fill(~counted, -torch.inf)
    vocabulary.erase(logits, ids)
    log_outside, mean_outside = vocabulary.log_sum(logits)
    normaliser = torch.logaddexp(inside.logsumexp(dim=-1), log_outside)
    log_p, log_p_tail = inside - normaliser.unsqueeze(-1), log_outside - normaliser
    p, p_tail = log_p.exp(), log_p_tail.exp()
    entropy = -torch.special.xlogy(p, p).sum(dim=-1) - p_tail * (mean_outside + log_p_tail.clamp_min(NEVER))
    compared = compare_at(log_p, log_p_tail, counted, student_ids, teacher, settings)
    support = _Support(ids.masked_fill(~counted, -1).int(), p, compared.slopes.inside)
    outside = _Outside(log_outside, compared.slopes.outside, compared.slopes.total)
    return support, compared, outside, normaliser, entropy


def _logit_gradient(
    grads: Sequence[Tensor | None],
    targets: Int[Tensor, " n"],
    rows: Int[Tensor, " tutored"],
    normaliser: Float[Tensor, " n"],
    entropy: Float[Tensor, " n"],
    support: _Support,
    log_outside: Float[Tensor, " tutored"],
    tail_slope: Float[Tensor, " tutored"],
    total_slope: Float[Tensor, " tutored"],
) -> _LogitGradient:
    """Combine what the three outputs receive into the gradient of the logits."""
    to_log_prob = torch.zeros_like(normaliser) if grads[0] is None else grads[0]
    to_divergence = torch.zeros_like(total_slope) if grads[2] is None else grads[2]
    outside = torch.where(log_outside > -torch.inf, log_outside, normaliser[rows])
    log_mass = outside - normaliser[rows]
    shift, scale, slant = normaliser.index_copy(0, rows, outside), -to_log_prob, None
    common = to_log_prob[rows] + to_divergence * total_slope
    value = to_divergence.unsqueeze(-1) * support.slope - support.p * common.unsqueeze(-1)
    scale = scale.index_copy(0, rows, to_divergence * tail_slope - log_mass.exp() * common)
    if grads[1] is not None:
        mass = torch.ones_like(normaliser).index_copy(0, rows, log_mass.exp())
        slant = -grads[1] * mass
        scale = scale + slant * entropy.index_add(0, rows, log_mass)
        log_p = support.p.clamp_min(torch.finfo(support.p.dtype).tiny).log()
        value = value - grads[1][rows].unsqueeze(-1) * support.p * (log_p + entropy[rows].unsqueeze(-1))
    return _LogitGradient(shift, scale, slant, rows, support.id, value, targets, to_log_prob)


def _held(gradient: _LogitGradient, vocabulary: Vocabulary) -> _LogitGradient:
    """Return the gradient of the logits held here; what was set and is held elsewhere goes."""
    set_id, here = vocabulary.local(gradient.set_id)
    targets, own = vocabulary.local(gradient.targets)
    if here is None or own is None:
        return gradient
    return gradient._replace(set_id=set_id.masked_fill(~here, -1), targets=targets, to_target=gradient.to_target * own)


def _of_block(gradient: _LogitGradient, block: slice) -> _LogitGradient:
    """Return the gradient of a block of rows."""
    if block == slice(0, len(gradient.shift)):
        return gradient
    here = (gradient.set_row >= block.start) & (gradient.set_row < block.stop)
    return _LogitGradient(
        gradient.shift[block],
        gradient.scale[block],
        None if gradient.slant is None else gradient.slant[block],
        gradient.set_row[here] - block.start,
        gradient.set_id[here],
        gradient.set_value[here],
        gradient.targets[block],
        gradient.to_target[block],
    )


def _chunks(
    head: ChunkedHead, states: Float[Tensor, "rows hidden"], gradient: _LogitGradient, chunk: int
) -> Iterator[tuple[slice, Float[Tensor, "rows ids"]]]:
    """Yield (ids, gradient [r, ids]) for one piece of the vocabulary after another; the tensor is reused."""
    buffer = gradient.shift.new_empty(len(states) * min(chunk, head.vocabulary))
    for ids in slices(head.vocabulary, chunk):
        width = ids.stop - ids.start
        to_logits = buffer[: len(states) * width].view(len(states), width)
        head.logits(states, to_logits, ids)
        for part in slices(len(states), max(1, piece(states) // width)):
            _fill(to_logits[part], gradient, part)
        at, slot = ((gradient.set_id >= ids.start) & (gradient.set_id < ids.stop)).nonzero(as_tuple=True)
        to_logits[gradient.set_row[at], gradient.set_id[at, slot] - ids.start] = gradient.set_value[at, slot]
        (row,) = ((gradient.targets >= ids.start) & (gradient.targets < ids.stop)).nonzero(as_tuple=True)
        to_logits[row, gradient.targets[row] - ids.start] += gradient.to_target[row]
        yield ids, to_logits


def _fill(logits: Float[Tensor, "rows ids"], gradient: _LogitGradient, piece: slice) -> None:
    x = logits.sub_(gradient.shift[piece].unsqueeze(-1))
    scale = gradient.scale[piece].unsqueeze(-1)
    if gradient.slant is None:
        exp_(x).mul_(scale)
        return
    slanted = x * gradient.slant[piece].unsqueeze(-1) + scale
    exp_(x).mul_(slanted)


def _others(rows: Int[Tensor, " tutored"], hidden: Float[Tensor, "n hidden"]) -> Int[Tensor, " rest"]:
    """Return which tokens are not compared."""
    left = torch.ones(len(hidden), dtype=torch.bool, device=hidden.device)
    left[rows] = False
    return left.nonzero().squeeze(-1)


def _joined(pieces: Sequence[tuple[Tensor, ...]], empty: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.cat(column) for column in zip(*pieces, strict=True)) if pieces else empty
