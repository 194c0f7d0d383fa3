"""How far apart are the teacher's and the student's next-token distributions?

The readable version, on dense logits. p is the student, q the teacher; logarithms are natural. Both arguments
are logits already divided by the sampling temperature. No gradient ever reaches the teacher.
"""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ptdpo.algo.shapes import Bool, Float, Int

Kind = Literal["jsd", "forward_kl", "reverse_kl"]
Support = Literal["union", "student", "teacher"]
Tail = Literal["bucket", "none", "student"]


class SupportCoverage(NamedTuple):
    """How much of the two distributions a Top-K support covers; no gradient.

    Attributes:
        overlap: share of the student's Top-K ids that the teacher's Top-K holds too.
        student_tail: student probability outside the support.
        teacher_tail: teacher probability outside the support.
    """

    overlap: Float[Tensor, "*batch"]
    student_tail: Float[Tensor, "*batch"]
    teacher_tail: Float[Tensor, "*batch"]


def topk_divergence(
    student_logits: Float[Tensor, "*batch vocab"],
    teacher_logits: Float[Tensor, "*batch vocab"],
    *,
    k: int = 100,
    kind: Kind = "jsd",
    support: Support = "union",
    tail: Tail = "bucket",
) -> Float[Tensor, "*batch"]:
    """Divergence between the distributions compressed to a Top-K support and one tail bucket, (14) to (17).

    With S the support, p~ = (p(v) for v in S, 1 - sum_S p) and q~ likewise, this is D(q~, p~) per position.
    Compression merges tokens, so the result never exceeds ``full_divergence`` and grows with ``k`` (62).

    Args:
        student_logits: p = softmax(student_logits); receives the gradient.
        teacher_logits: q = softmax(teacher_logits); detached. ``-inf`` marks impossible tokens in either.
        k: size of each Top-K; larger than the vocabulary means the whole vocabulary.
        kind: ``jsd`` (13), symmetric, in [0, ln 2]; ``forward_kl`` KL(q‖p) (35); ``reverse_kl`` KL(p‖q) (37).
        support: ``union`` of both Top-K (the paper), or only the ``student``'s or the ``teacher``'s.
        tail: ``bucket`` keeps the mass outside the support as one more token (15); ``none`` drops it and
            renormalises both distributions over the support; ``student`` renormalises the teacher only, so that
            what the student puts outside meets probability 0 (HDPO): in the JSD it costs ln 2 / 2 per unit of mass.

    Returns:
        One divergence per position, in nats, in float32 or wider.

    Raises:
        ValueError: if ``k`` is below 1, the shapes differ, or a setting is unknown.
    """
    check_settings(k, kind, support, tail)
    log_p, log_q = _log_probabilities(student_logits, teacher_logits)
    ids, counted = _support(log_p, log_q, k, support)
    outside = None if tail == "none" else _outside(log_p, ids)
    compressed_p = _compress(log_p, ids, counted, outside)
    compressed_q = _compress(log_q, ids, counted, outside if tail == "bucket" else None)
    if tail == "student":
        compressed_q = torch.nn.functional.pad(compressed_q, (0, 1), value=-torch.inf)
    return divergence_of(kind, compressed_p, compressed_q)


def full_divergence(
    student_logits: Float[Tensor, "*batch vocab"],
    teacher_logits: Float[Tensor, "*batch vocab"],
    *,
    kind: Kind = "jsd",
    clip: float | None = None,
) -> Float[Tensor, "*batch"]:
    """Divergence over the full vocabulary, (13), (35) or (37); arguments as in ``topk_divergence``.

    Args:
        student_logits: as in ``topk_divergence``.
        teacher_logits: as in ``topk_divergence``.
        kind: as in ``topk_divergence``.
        clip: no single id of the vocabulary contributes more than this (OPSD); one that would passes no gradient.

    Raises:
        ValueError: if the shapes differ, ``kind`` is unknown, or ``clip`` is not positive.
    """
    _check_choice("kind", kind, Kind)
    if clip is not None and not clip > 0:
        raise ValueError(f"clip must be positive, got {clip}")
    terms = _terms(kind, *_log_probabilities(student_logits, teacher_logits))
    return (terms if clip is None else terms.clamp_max(clip)).sum(dim=-1)


@torch.no_grad()
def topk_agreement(
    student_logits: Float[Tensor, "*batch vocab"],
    teacher_logits: Float[Tensor, "*batch vocab"],
    *,
    k: int = 100,
    support: Support = "union",
) -> SupportCoverage:
    """Return the overlap of both Top-K and the masses outside the support of ``topk_divergence``, per position."""
    check_settings(k, support=support)
    log_p, log_q = _log_probabilities(student_logits, teacher_logits)
    k = min(k, log_p.size(-1))
    overlap = is_in(log_p.topk(k, dim=-1).indices, log_q.topk(k, dim=-1).indices).to(log_p.dtype).mean(dim=-1)
    outside = _outside(log_p, _support(log_p, log_q, k, support)[0])
    return SupportCoverage(
        overlap,
        log_p.exp().masked_fill(~outside, 0.0).sum(dim=-1),
        log_q.exp().masked_fill(~outside, 0.0).sum(dim=-1),
    )


def _log_probabilities(
    student_logits: Float[Tensor, "*batch vocab"], teacher_logits: Float[Tensor, "*others others_vocab"]
) -> tuple[Float[Tensor, "*batch vocab"], Float[Tensor, "*batch vocab"]]:
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student logits {tuple(student_logits.shape)} and teacher logits {tuple(teacher_logits.shape)} "
            "must have the same shape; a different last size means another vocabulary"
        )
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    return (
        student_logits.to(dtype).log_softmax(dim=-1),
        teacher_logits.detach().to(dtype).log_softmax(dim=-1),
    )


def _support(
    log_p: Float[Tensor, "*batch vocab"], log_q: Float[Tensor, "*batch vocab"], k: int, support: Support
) -> tuple[Int[Tensor, "*batch s"], Bool[Tensor, "*batch s"]]:
    """Return the ids of the support and which of them count: an id that both sides name counts once."""
    k = min(k, log_p.size(-1))
    if support != "union":
        ids = (log_p if support == "student" else log_q).topk(k, dim=-1).indices
        return ids, torch.ones_like(ids, dtype=torch.bool)
    student_ids, teacher_ids = log_p.topk(k, dim=-1).indices, log_q.topk(k, dim=-1).indices
    counted = torch.cat([torch.ones_like(student_ids, dtype=torch.bool), ~is_in(teacher_ids, student_ids)], dim=-1)
    return torch.cat([student_ids, teacher_ids], dim=-1), counted


def is_in(ids: Int[Tensor, "*batch a"], others: Int[Tensor, "*batch b"]) -> Bool[Tensor, "*batch a"]:
    """Return which ids [..., a] are among the others [..., b] of their row."""
    return (ids.unsqueeze(-1) == others.unsqueeze(-2)).any(dim=-1)


def _outside(log_p: Float[Tensor, "*batch vocab"], ids: Int[Tensor, "*batch s"]) -> Bool[Tensor, "*batch vocab"]:
    """Return which tokens of the vocabulary the support leaves out."""
    return torch.ones_like(log_p, dtype=torch.bool).scatter(-1, ids, False)


def _compress(
    log_p: Float[Tensor, "*batch vocab"],
    ids: Int[Tensor, "*batch s"],
    counted: Bool[Tensor, "*batch s"],
    outside: Bool[Tensor, "*batch vocab"] | None,
) -> Float[Tensor, "*batch buckets"]:
    """Return the log of the compressed distribution (16); ids that do not count get probability 0.

    The tail is a log-sum-exp over the tokens outside rather than 1 - sum, which would lose every digit of a
    small tail. Without a tail the support is renormalised.
    """
    inside = log_p.gather(-1, ids).masked_fill(~counted, -torch.inf)
    if outside is None:
        return inside - _log_sum_exp(inside)
    return torch.cat([inside, _log_sum_exp(log_p.masked_fill(~outside, -torch.inf))], dim=-1)


def _log_sum_exp(log_p: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch 1"]:
    """Log-sum-exp over the last dimension, kept; ``-inf`` with gradient 0, not NaN, when every entry is."""
    empty = log_p.amax(dim=-1, keepdim=True) == -torch.inf
    total = log_p.masked_fill(empty, 0.0).logsumexp(dim=-1, keepdim=True)
    return total.masked_fill(empty, -torch.inf)


def divergence_of(
    kind: Kind, log_p: Float[Tensor, "*batch n"], log_q: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch"]:
    """Return D between distributions given as log-probabilities over the last dimension; ``-inf`` is allowed."""
    return _terms(kind, log_p, log_q).sum(dim=-1)


def _terms(kind: Kind, log_p: Float[Tensor, "*batch n"], log_q: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """Return what each id contributes to D."""
    if kind == "jsd":
        return _jsd_terms(log_p.exp(), log_q.exp())
    if kind == "forward_kl":
        return _kl_terms(log_q, log_p)
    return _kl_terms(log_p, log_q)


def divergence_slope(
    kind: Kind, log_p: Float[Tensor, "*batch n"], log_q: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch n"]:
    """Return s_v = dD / d log p_v in closed form, every log p_v taken as a variable of its own; 0 where p = 0.

    JSD: p/2 log(p / m); forward KL: -q; reverse KL: p (log(p / q) + 1). Through the softmax this becomes
    dD / dz_v = s_v - p_v sum(s).
    """
    if kind == "forward_kl":
        return -log_q.exp()
    present = log_p > -torch.inf
    log_ratio = (log_q - log_p).masked_fill(~present, 0.0)
    if kind == "reverse_kl":
        return log_p.exp() * (1.0 - log_ratio)
    # log(m / p) = log(1 + (q / p - 1) / 2); beyond e^80 p is 0 in float32 and so is the product.
    return -0.5 * log_p.exp() * torch.log1p(0.5 * torch.expm1(log_ratio.clamp_max(80.0)))


def _kl_terms(log_a: Float[Tensor, "*batch n"], log_b: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """Return a log(a / b) per token of KL(a‖b); 0 where a = 0."""
    present = log_a > -torch.inf
    return log_a.exp() * (log_a.masked_fill(~present, 0.0) - log_b.masked_fill(~present, 0.0))


def _jsd_terms(p: Float[Tensor, "*batch n"], q: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """Return 1/2 p log(p / m) + 1/2 q log(q / m) per token, m = (p + q) / 2; 0 where both are 0.

    With d = (p - q) / (p + q) the term is m (d atanh d + 1/2 log(1 - d^2)). For small d this form keeps the
    digits that the textbook form loses by cancellation, and it is 0 exactly when p = q.
    """
    tiny = torch.finfo(p.dtype).tiny
    m = (p + q) / 2
    d = (p - q) / (p + q).clamp_min(tiny)
    close = d.abs() < 0.5
    d = d.masked_fill(~close, 0.0)
    near = m * (d * torch.atanh(d) + 0.5 * torch.log1p(-d * d))
    log_m = m.clamp_min(tiny).log()
    far = 0.5 * (p * (p.clamp_min(tiny).log() - log_m) + q * (q.clamp_min(tiny).log() - log_m))
    return torch.where(close, near, far)


def check_settings(k: int, kind: str = "jsd", support: str = "union", tail: str = "bucket") -> None:
    """Refuse settings that no divergence has.

    Raises:
        ValueError: naming the setting.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    for name, value, choices in (("kind", kind, Kind), ("support", support, Support), ("tail", tail, Tail)):
        _check_choice(name, value, choices)
    if tail == "student" and kind == "reverse_kl":
        raise ValueError(
            "tail='student' leaves the teacher nothing outside the support: KL(student‖teacher) is infinite"
        )


def _check_choice(name: str, value: str, choices: object) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}, got {value!r}")
