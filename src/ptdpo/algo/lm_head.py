"""The fused tutored LM head: log-probability, entropy and exact Top-K divergence without holding the logits.

``teacher_topk`` reduces the teacher's logits to what the divergence needs; ``token_stats`` scores the student and
compares the two. Neither ever holds [N, V]: the forward pass holds the logits of ``row_chunk`` tokens, the backward
pass recomputes those of ``vocab_chunk`` ids. Gradients to hidden states, weight and bias are exact. The readable
version, on whole logits, is ``ptdpo.algo.dense_head``.

The module needs nothing but torch and its neighbours in ``ptdpo.algo``, and knows nothing of trainers.
"""

import torch
from torch import Tensor

from ptdpo.algo.backends import Backend, chosen
from ptdpo.algo.chunks import ChunkedHead
from ptdpo.algo.divergence import Kind, Support, Tail, check_settings
from ptdpo.algo.fused import FusedStats, reduced
from ptdpo.algo.head_checks import check_tokens, checked_rows, operands, rows_at_once
from ptdpo.algo.shapes import Float, Int
from ptdpo.algo.sharded import whole
from ptdpo.algo.support import HeadSettings
from ptdpo.algo.teacher_topk import TeacherTopK, concatenate
from ptdpo.algo.token_stats import TokenStats
from ptdpo.algo.vocabulary import WHOLE

__all__ = ["TeacherTopK", "TokenStats", "concatenate", "teacher_topk", "token_stats"]


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
    hidden, weight = operands("teacher", hidden, weight, bias, temperature)
    check_settings(k)
    with torch.autocast(hidden.device.type, enabled=False):
        head = ChunkedHead(weight, bias, temperature)
        who = chosen(backend, hidden)
        row_chunk = rows_at_once(row_chunk, len(weight), weight.is_cuda, who)
        if who == "triton":
            from ptdpo.algo import triton_head

            return TeacherTopK(
                hidden, *triton_head.reduced(hidden, head, min(k, len(weight)), row_chunk), temperature, weight, bias
            )
        return TeacherTopK(
            hidden, *reduced(hidden, head, min(k, len(weight)), row_chunk, WHOLE), temperature, weight, bias
        )


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
    hidden, weight = operands("student", hidden, weight, bias, temperature)
    check_settings(k, kind, support, tail)
    check_tokens(hidden, targets, len(weight), vocab_chunk)
    if teacher is not None and teacher.weight is not None:
        teacher = teacher.with_head(whole(teacher.weight), None if teacher.bias is None else whole(teacher.bias))
    rows = checked_rows(rows, teacher, hidden, weight, temperature)
    k = min(k, len(weight))
    who = chosen(backend, hidden)
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (hidden, weight, bias))
    row_chunk = rows_at_once(row_chunk, len(weight), weight.is_cuda, who)
    settings = HeadSettings(k, temperature, kind, support, tail, row_chunk, vocab_chunk, who, keep)
    with torch.autocast(hidden.device.type, enabled=False):
        if who == "torch":
            return TokenStats(*FusedStats.apply(hidden, weight, bias, targets, rows, teacher, settings, WHOLE))
        from ptdpo.algo.triton_head import TritonStats

        return TokenStats(*TritonStats.apply(hidden, weight, bias, targets, rows, teacher, settings))
