"""The result that the fused head and its dense reference share."""

from typing import NamedTuple

from torch import Tensor

from ptdpo.algo.shapes import Float


class TokenStats(NamedTuple):
    """Scores of N tokens, n of them compared with a teacher, in the order of ``rows``.

    Attributes:
        log_prob: [N], log-probability of the target; differentiable.
        entropy: [N], entropy of the next-token distribution in nats; differentiable.
        divergence: [n], as ``topk_divergence``; differentiable.
        overlap: [n], share of the student's Top-K ids that the teacher's Top-K holds too.
        student_tail: [n], student mass outside the support.
        teacher_tail: [n], teacher mass outside the support.
    """

    log_prob: Float[Tensor, " n"]
    entropy: Float[Tensor, " n"]
    divergence: Float[Tensor, " tutored"]
    overlap: Float[Tensor, " tutored"]
    student_tail: Float[Tensor, " tutored"]
    teacher_tail: Float[Tensor, " tutored"]
