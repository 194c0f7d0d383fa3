"""The readable reference of ``ptdpo.algo.lm_head.token_stats``: the same numbers from whole logits [N, V]."""

import torch
from torch import Tensor

from ptdpo.algo.chunks import float_logits
from ptdpo.algo.divergence import Kind, Support, Tail, topk_agreement, topk_divergence
from ptdpo.algo.shapes import Float, Int
from ptdpo.algo.teacher_topk import TeacherTopK
from ptdpo.algo.token_stats import TokenStats


def dense_token_stats(
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
) -> TokenStats:
    """Score tokens and compare some of them; arguments and result as in ``token_stats``, whose checks it lacks."""
    logits = float_logits(hidden, weight, bias, temperature)
    log_p = logits.log_softmax(dim=-1)
    log_prob = log_p.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    entropy = -(log_p.exp() * log_p.masked_fill(log_p == -torch.inf, 0.0)).sum(dim=-1)
    if teacher is None:
        # Connected to the student, like a divergence that compares nothing.
        return TokenStats(log_prob, entropy, log_prob[:0], *log_prob.new_empty(3, 0))
    student = logits if rows is None else logits[rows]
    with torch.no_grad():
        assert teacher.weight is not None, "the record was stored without its head"
        teacher_logits = float_logits(teacher.hidden, teacher.weight, teacher.bias, temperature)
    divergence = topk_divergence(student, teacher_logits, k=k, kind=kind, support=support, tail=tail)
    agreement = topk_agreement(student.detach(), teacher_logits, k=k, support=support)
    return TokenStats(log_prob, entropy, divergence, *agreement)
