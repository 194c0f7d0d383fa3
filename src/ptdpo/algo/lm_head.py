"""The fused tutored LM head: log-probability, entropy and exact Top-K divergence without holding the logits.

``teacher_topk`` reduces the teacher's logits to what the divergence needs; ``token_stats`` scores the student and
compares the two. Neither ever holds [N, V]: the forward pass holds the logits of ``row_chunk`` tokens, the backward
pass recomputes those of ``vocab_chunk`` ids. Gradients to hidden states, weight and bias are exact. The readable
version, on whole logits, is ``ptdpo.algo.dense_head``.

The module needs nothing but torch and its neighbours in ``ptdpo.algo``, and knows nothing of trainers.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from ptdpo.algo.backends import Backend, chosen
from ptdpo.algo.chunks import NEVER, ChunkedHead, log_sum, slices, topk_ids
from ptdpo.algo.divergence import Kind, Support, Tail, check_settings
from ptdpo.algo.fused import FusedStats
from ptdpo.algo.sharded import whole
from ptdpo.algo.support import HeadSettings
from ptdpo.algo.teacher_topk import TeacherTopK, concatenate
from ptdpo.algo.token_stats import TokenStats

__all__ = ["TeacherTopK", "TokenStats", "concatenate", "teacher_topk", "token_stats"]

# Logits held at once by the forward pass, in numbers: 80 MB in float32, four times as many on a GPU.
_FORWARD_LOGITS = 20_000_000


@torch.no_grad()
def teacher_topk(
    hidden: Float[Tensor, "n hidden"],
    weight: Float[Tensor, "vocab hidden"],
    bias: Float[Tensor, " vocab"] | None = None,
    *,
    k: int = 100,
    temperature: float = 1.0,
    row_chunk: int | None = None,
    backend: Backend = "auto",
) -> TeacherTopK:
    """Reduce a teacher's distributions softmax((hidden weightᵀ + bias) / temperature) to their Top-K.

    Args:
        hidden: last hidden states of the tokens to teach.
        weight: the head; a ``DTensor`` is gathered, see ``ptdpo.algo.sharded``.
        bias: the head's bias.
        k: how many ids to keep; larger than the vocabulary means all.
        temperature: the sampling temperature.
        row_chunk: tokens whose logits are held at once; chosen by memory by default.
        backend: ``torch``, ``triton``, or ``auto``: Triton on a GPU where it is installed. The numbers are the same.

    Raises:
        ValueError: for k < 1, a temperature that is not positive, integer or NaN hidden states, sizes that differ.
    """
    weight, bias = whole(weight), None if bias is None else whole(bias)
    hidden, weight = _operands("teacher", hidden, weight, bias, temperature)
    check_settings(k)
    with torch.autocast(hidden.device.type, enabled=False):
        head = ChunkedHead(weight, bias, temperature)
        who = chosen(backend, hidden)
        row_chunk = _rows_at_once(row_chunk, weight, who)
        if who == "triton":
            from ptdpo.algo.triton_head import reduced

            return TeacherTopK(
                hidden, *reduced(hidden, head, min(k, len(weight)), row_chunk), temperature, weight, bias
            )
        return _reduced(hidden, head, min(k, head.vocabulary), row_chunk)


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
    backend: Backend = "auto",
) -> TokenStats:
    """Score tokens and compare some of them with a teacher, in one pass over the hidden states.

    The student's distribution is softmax((hidden weightᵀ + bias) / temperature). The divergence is that of
    ``topk_divergence`` with the same settings, (13) to (17), (35), (37); no gradient reaches the teacher.

    Args:
        hidden: the student's last hidden states; receives a gradient.
        weight: the head; receives a gradient. A ``DTensor`` is gathered, see ``ptdpo.algo.sharded``.
        targets: the ids whose log-probability is wanted.
        bias: the head's bias; receives a gradient.
        teacher: the teacher at ``rows``, in that order; its ``k`` may differ from the student's.
        rows: which tokens are compared, each once; ``None`` with a teacher means all.
        k: size of the student's Top-K.
        temperature: the sampling temperature, which must be the teacher's.
        kind: ``jsd``, ``forward_kl`` or ``reverse_kl``.
        support: ``union``, ``student`` or ``teacher``.
        tail: ``bucket``, ``none`` or ``student``.
        row_chunk: tokens whose logits the forward pass holds; chosen by memory by default.
        vocab_chunk: ids whose logits the backward pass holds; chosen by memory by default, without use to Triton.
        backend: as in ``teacher_topk``.

    Raises:
        ValueError: for settings out of range, sizes that do not fit, rows out of range or given twice, targets
            outside the vocabulary, a teacher of another vocabulary, or integer or NaN hidden states.
    """
    weight, bias = whole(weight), None if bias is None else whole(bias)
    hidden, weight = _operands("student", hidden, weight, bias, temperature)
    check_settings(k, kind, support, tail)
    if targets.shape != hidden.shape[:1]:
        raise ValueError(f"{len(hidden)} hidden states need as many targets, got shape {tuple(targets.shape)}")
    _check_range("targets", targets, len(weight), "the vocabulary")
    if teacher is not None and teacher.weight is not None:
        teacher = teacher.with_head(whole(teacher.weight), None if teacher.bias is None else whole(teacher.bias))
    rows = _checked_rows(rows, teacher, hidden, weight, temperature)
    if vocab_chunk is not None and vocab_chunk < 1:
        raise ValueError(f"vocab_chunk must be at least 1, got {vocab_chunk}")
    k = min(k, len(weight))
    who = chosen(backend, hidden)
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (hidden, weight, bias))
    row_chunk = _rows_at_once(row_chunk, weight, who)
    settings = HeadSettings(k, temperature, kind, support, tail, row_chunk, vocab_chunk, who, keep)
    with torch.autocast(hidden.device.type, enabled=False):
        return TokenStats(*_function(who).apply(hidden, weight, bias, targets, rows, teacher, settings))


def _function(backend: Literal["torch", "triton"]) -> type[torch.autograd.Function]:
    if backend == "torch":
        return FusedStats
    from ptdpo.algo.triton_head import TritonStats

    return TritonStats


def _reduced(hidden: Float[Tensor, "n hidden"], head: ChunkedHead, k: int, row_chunk: int) -> TeacherTopK:
    """Return what remains of the teacher's distributions, read ``row_chunk`` tokens at a time."""
    buffer = head.buffer(hidden, row_chunk)
    ids = torch.empty(len(hidden), k, dtype=torch.int32, device=hidden.device)
    log_probs = buffer.new_empty(len(hidden), k)
    log_rest, log_normaliser = buffer.new_empty(2, len(hidden))
    for rows in slices(len(hidden), len(buffer)):
        padded = buffer[: rows.stop - rows.start]
        logits = head.logits(hidden[rows], padded[:, : head.vocabulary])
        chosen = topk_ids(padded, head.vocabulary, k)
        kept = logits.gather(-1, chosen)
        rest, _ = log_sum(logits.scatter_(-1, chosen, NEVER))
        total = torch.logaddexp(kept.logsumexp(dim=-1), rest)
        ids[rows], log_probs[rows] = chosen.int(), kept - total.unsqueeze(-1)
        log_rest[rows], log_normaliser[rows] = rest - total, total
    return TeacherTopK(hidden, ids, log_probs, log_rest, log_normaliser, head.temperature, head.weight, head.bias)


def _operands(
    side: str, hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor]:
    """Check one side's tensors and return them in the type in which they are multiplied."""
    if not hidden.is_floating_point():
        raise ValueError(f"the {side}'s hidden states must be floating point, got {hidden.dtype}")
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.size(1) != weight.size(1):
        raise ValueError(
            f"the {side}'s hidden states {tuple(hidden.shape)} and head {tuple(weight.shape)} must be [n, H] and [V, H]"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"the {side}'s head has {len(weight)} ids but its bias has shape {tuple(bias.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if not hidden.isfinite().all():
        raise ValueError(f"the {side}'s hidden states hold NaN or infinity")
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        return hidden.to(dtype), weight.to(dtype)
    return hidden.to(weight.dtype), weight


def _checked_rows(
    rows: Int[Tensor, " tutored"] | None,
    teacher: TeacherTopK | None,
    hidden: Float[Tensor, "n hidden"],
    weight: Float[Tensor, "vocab hidden"],
    temperature: float,
) -> Int[Tensor, " compared"]:
    """Return which tokens are compared."""
    if teacher is None:
        if rows is not None and rows.numel():
            raise ValueError(f"{rows.numel()} rows are to be compared but there is no teacher")
        return torch.empty(0, dtype=torch.long, device=hidden.device)
    rows = torch.arange(len(hidden), device=hidden.device) if rows is None else rows
    if rows.numel() != len(teacher):
        raise ValueError(f"the teacher holds {len(teacher)} tokens but {rows.numel()} rows are to be compared")
    _check_range("rows", rows, len(hidden), "the hidden states")
    named = torch.zeros(len(hidden), dtype=torch.int32, device=hidden.device)
    if rows.numel() and named.index_add_(0, rows, torch.ones_like(rows, dtype=torch.int32)).amax() > 1:
        raise ValueError("rows holds an index twice")
    if teacher.weight is None:
        raise ValueError("the teacher was stored without its head: call with_head first")
    if len(teacher.weight) != len(weight):
        raise ValueError(
            f"teacher and student must share a vocabulary: the teacher's head has {len(teacher.weight)} ids, "
            f"the student's {len(weight)}"
        )
    if teacher.temperature != temperature:
        raise ValueError(f"the teacher was read at temperature {teacher.temperature}, the student at {temperature}")
    return rows.long()


def _check_range(name: str, values: Shaped[Tensor, " n"], size: int, of: str) -> None:
    if values.is_floating_point() or values.dtype == torch.bool:
        raise ValueError(f"{name} must be integers, got {values.dtype}")
    if values.numel():
        least, most = torch.stack(values.aminmax()).tolist()
        if least < 0 or most >= size:
            raise ValueError(f"{name} must lie in [0, {size}), the size of {of}; got {least} to {most}")


def _rows_at_once(
    row_chunk: int | None, weight: Float[Tensor, "vocab hidden"], backend: Literal["torch", "triton"]
) -> int:
    if row_chunk is not None and row_chunk < 1:
        raise ValueError(f"row_chunk must be at least 1, got {row_chunk}")
    if row_chunk is None and backend == "triton":
        from ptdpo.algo.triton_calls import rows_at_once

        return rows_at_once(len(weight))
    return row_chunk or max(1, _FORWARD_LOGITS * (4 if weight.is_cuda else 1) // len(weight))
