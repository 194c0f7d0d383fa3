"""The Top-K support of student and teacher, and the divergence with its slopes there: shared by every fused backend."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ptdpo.algo.divergence import Kind, Support, Tail, divergence_of, divergence_slope, is_in
from ptdpo.algo.shapes import Bool, Float, Int
from ptdpo.algo.teacher_topk import TeacherTopK


class HeadSettings(NamedTuple):
    """The settings of one call of ``token_stats``."""

    k: int
    temperature: float
    kind: Kind
    support: Support
    tail: Tail
    row_chunk: int
    vocab_chunk: int | None
    backend: Literal["torch", "triton"] = "torch"
    keep: bool = False  # whether a backward pass may follow

    def support_size(self, teacher: TeacherTopK) -> int:
        """Return how many ids ``support_ids`` names per token."""
        named = {"student": self.k, "teacher": teacher.ids.size(1)}
        return named.get(self.support, sum(named.values()))


class Slopes(NamedTuple):
    """What the backward pass needs per compared token.

    Attributes:
        inside: [n, s], dD / d log p on the support; whatever it holds where an id does not count.
        outside: [n], dD / d log of the student's mass outside.
        total: [n], the sum of all slopes that count, inside and outside.
    """

    inside: Float[Tensor, "n s"]
    outside: Float[Tensor, " n"]
    total: Float[Tensor, " n"]


class ComparedTokens(NamedTuple):
    """Per compared token: divergence, overlap and both tails as in ``TokenStats``, then the slopes."""

    divergence: Float[Tensor, " n"]
    overlap: Float[Tensor, " n"]
    student_tail: Float[Tensor, " n"]
    teacher_tail: Float[Tensor, " n"]
    slopes: Slopes


def support_ids(
    student_ids: Int[Tensor, "n k"], teacher_ids: Int[Tensor, "n j"], support: Support
) -> tuple[Int[Tensor, "n s"], Bool[Tensor, "n s"]]:
    """Return the ids of the support, and which count: in a union a teacher's id that the student names does not."""
    if support == "union":
        ids = torch.cat([student_ids, teacher_ids], dim=-1)
        named = torch.ones_like(student_ids, dtype=torch.bool)
        return ids, torch.cat([named, ~is_in(teacher_ids, student_ids)], dim=-1)
    ids = student_ids if support == "student" else teacher_ids
    return ids, torch.ones_like(ids, dtype=torch.bool)


def compare_at(
    log_p: Float[Tensor, "n s"],
    log_p_tail: Float[Tensor, " n"],
    counted: Bool[Tensor, "n s"],
    student_ids: Int[Tensor, "n k"],
    teacher: TeacherTopK,
    settings: HeadSettings,
) -> ComparedTokens:
    """Return the divergence on a support and its slopes, (13) to (17), (35), (37).

    Args:
        log_p: the student's log-probabilities at the ids of ``support_ids``, ``-inf`` where an id does not count.
        log_p_tail: the log of the student's mass outside the support; ``-inf`` if there is none.
        counted: which ids count.
        student_ids: the student's Top-K.
        teacher: the teacher at the same tokens, with its head.
        settings: of the call.
    """
    teacher_ids = teacher.ids.long()
    nothing_outside = log_p_tail == -torch.inf
    log_q, log_q_tail = _teacher_side(
        teacher, student_ids, teacher_ids, settings.support, nothing_outside, settings.backend
    )
    log_q = log_q.masked_fill(~counted, -torch.inf)
    student_tail, teacher_tail = log_p_tail.exp(), log_q_tail.exp()
    if settings.tail == "student":
        log_q, log_q_tail = log_q.log_softmax(dim=-1), torch.full_like(log_q_tail, -torch.inf)
    if settings.tail != "none":
        pair = torch.cat([log_p, log_p_tail.unsqueeze(-1)], -1), torch.cat([log_q, log_q_tail.unsqueeze(-1)], -1)
    else:
        pair = log_p.log_softmax(dim=-1), log_q.log_softmax(dim=-1)
    slope = divergence_slope(settings.kind, *pair)
    if settings.tail == "none":
        slope = slope - pair[0].exp() * slope.sum(dim=-1, keepdim=True)
        slope = torch.nn.functional.pad(slope, (0, 1))
    return ComparedTokens(
        divergence_of(settings.kind, *pair),
        is_in(student_ids, teacher_ids).to(log_p.dtype).mean(dim=-1),
        student_tail,
        teacher_tail,
        Slopes(slope[:, :-1], slope[:, -1], slope.sum(dim=-1)),
    )


def _teacher_side(
    teacher: TeacherTopK,
    student_ids: Int[Tensor, "n k"],
    teacher_ids: Int[Tensor, "n j"],
    support: Support,
    nothing_outside: Bool[Tensor, " n"],
    backend: Literal["torch", "triton"],
) -> tuple[Float[Tensor, "n s"], Float[Tensor, " n"]]:
    """Return log q on the support, in the order of its ids, and the log of the teacher's mass outside it.

    That mass is what the teacher left outside its own Top-K, less the student's other ids: nothing large is
    subtracted, so that a small tail keeps its digits. Where the student has nothing outside (``nothing_outside`` [n]),
    what rounding leaves of the teacher's mass is taken for nothing too: KL(teacher‖student) would be infinite.
    """
    if support == "teacher":
        return teacher.log_probs, teacher.log_rest
    same = student_ids.unsqueeze(-1) == teacher_ids.unsqueeze(-2)
    kept = same.any(dim=-1)
    known = teacher.log_probs.gather(-1, same.int().argmax(dim=-1))
    log_q = torch.where(kept, known, teacher.log_probs_at(student_ids, ~kept, backend))
    others = log_q.masked_fill(kept, -torch.inf).logsumexp(dim=-1)
    share = (others - teacher.log_rest).exp().nan_to_num(0.0, posinf=1.0)
    # What rounding leaves of a used-up rest is not 0: outside ids have some probability, and KL divides by it.
    eps = torch.finfo(share.dtype).eps
    left = teacher.log_rest + torch.log1p(-share.clamp_max(1.0 - eps))
    left = left.masked_fill(nothing_outside & (share > 1.0 - 1e3 * eps), -torch.inf)
    if support == "union":
        return torch.cat([log_q, teacher.log_probs], dim=-1), left
    missed = teacher.log_probs.masked_fill(same.any(dim=-2), -torch.inf).logsumexp(dim=-1)
    return log_q, torch.logaddexp(left, missed)
