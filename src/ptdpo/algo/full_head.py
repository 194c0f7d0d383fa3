"""Full-vocabulary divergence from hidden states, a few rows at a time: nothing larger than their logits is held."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ptdpo.algo.chunks import float_logits
from ptdpo.algo.divergence import Kind, full_divergence
from ptdpo.algo.shapes import Float
from ptdpo.algo.teacher_topk import TeacherTopK

# Logits held at once on each side, in numbers.
_LOGITS = 10_000_000


def full_head_divergence(
    hidden: Float[Tensor, "n hidden"],
    weight: Float[Tensor, "vocab hidden"],
    bias: Float[Tensor, " vocab"] | None,
    teacher: TeacherTopK,
    *,
    temperature: float,
    kind: Kind,
    clip: float | None = None,
) -> Float[Tensor, " n"]:
    """Return ``full_divergence`` [n] between a student and its teacher, both given by hidden states and heads.

    Args:
        hidden: [n, H], the student's last hidden states; receives a gradient, as do ``weight`` and ``bias``.
        weight: [V, H].
        bias: [V] or ``None``.
        teacher: the teacher at the same tokens, with its head.
        temperature: divides the logits of both.
        kind: as in ``full_divergence``.
        clip: as in ``full_divergence``.

    Raises:
        ValueError: if the two heads have different vocabularies.
    """
    if teacher.weight is None or len(teacher.weight) != len(weight):
        theirs = "no head" if teacher.weight is None else f"{len(teacher.weight)} ids"
        raise ValueError(f"teacher and student must share a vocabulary: {theirs} and {len(weight)} ids")

    def of_rows(
        states: Float[Tensor, "rows hidden"],
        weight: Float[Tensor, "vocab hidden"],
        bias: Float[Tensor, " vocab"] | None,
        teacher_states: Float[Tensor, "rows teacher_hidden"],
    ) -> Float[Tensor, " rows"]:
        with torch.no_grad():
            assert teacher.weight is not None
            theirs = float_logits(teacher_states, teacher.weight, teacher.bias, temperature)
        return full_divergence(float_logits(states, weight, bias, temperature), theirs, kind=kind, clip=clip)

    rows = max(1, _LOGITS // len(weight))
    pieces = [
        checkpoint(of_rows, states, weight, bias, theirs, use_reentrant=False)
        for states, theirs in zip(hidden.split(rows), teacher.hidden.split(rows), strict=True)
    ]
    return torch.cat(pieces)  # type: ignore[arg-type]
