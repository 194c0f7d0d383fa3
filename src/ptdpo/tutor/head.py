"""Scoring inside the model's own forward: log-probability, entropy and divergence at response positions.

Parallel engines (DDP, FSDP2) see an ordinary call of the model that returns a ``ModelOutput``.
"""

import functools
import types
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from ptdpo.algo.divergence import Kind, Support, Tail, topk_agreement, topk_divergence

_LOGIT_TRANSFORMS = (
    "final_logit_softcapping",
    "logit_scale",
    "output_multiplier",
    "lm_head_multiplier",
    "logits_scaling",
)


@dataclass(frozen=True, slots=True)
class Divergence:
    """Which divergence of ``topk_divergence`` tutoring uses."""

    k: int = 100
    kind: Kind = "jsd"
    support: Support = "union"
    tail: Tail = "bucket"


@dataclass(frozen=True, slots=True)
class Head:
    """A language-model head as plain tensors: weight [V, H], bias [V] or ``None``."""

    weight: Tensor
    bias: Tensor | None

    def logits(self, hidden: Tensor, temperature: float) -> Tensor:
        """Return float32 logits [n, V] of hidden states [n, H], divided by the temperature."""
        hidden = hidden.to(self.weight.dtype)
        return torch.nn.functional.linear(hidden, self.weight, self.bias).float() / temperature


@dataclass(frozen=True, slots=True)
class TeacherView:
    """What the teacher left for one micro-batch.

    Attributes:
        positions: [B, T] bool, the tutored response positions.
        hidden: [n, H], the teacher's last hidden states there, row by row.
        head: the teacher's head.
    """

    positions: Tensor
    hidden: Tensor
    head: Head


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """What a scoring forward shall compute. A plain object: engines cast or split the containers they know.

    Attributes:
        response_ids: [B, T], the last T tokens of each row.
        response_mask: [B, T] bool, False at padding.
        temperature: the sampling temperature; teacher and student logits are divided by it.
        teacher: what the teacher left, ``None`` when nothing of this micro-batch is compared.
        divergence: how to compare.
        only_hidden: return the hidden states that predict the response instead of scores.
    """

    response_ids: Tensor
    response_mask: Tensor
    temperature: float = 1.0
    teacher: TeacherView | None = None
    divergence: Divergence = Divergence()
    only_hidden: bool = False


@dataclass
class ScoredTokens(ModelOutput):
    """What a scoring forward returns.

    Attributes:
        log_probs: [B, T], log-probability of each response token; 0 at padding.
        entropy: [B, T], entropy of the next-token distribution in nats; 0 at padding.
        divergence: [n], one per tutored position, in the order of ``TeacherView.hidden``.
        overlap: [n], Top-K overlap, no gradient.
        student_tail: [n], student mass outside the support, no gradient.
        teacher_tail: [n], teacher mass outside the support, no gradient.
        hidden: [B, T, H], only for ``only_hidden``.
    """

    log_probs: Tensor | None = None
    entropy: Tensor | None = None
    divergence: Tensor | None = None
    overlap: Tensor | None = None
    student_tail: Tensor | None = None
    teacher_tail: Tensor | None = None
    hidden: Tensor | None = None


def add_scoring_head(model: PreTrainedModel) -> None:
    """Let ``model(..., score=ScoreRequest)`` return ``ScoredTokens``; other calls stay as they are.

    Raises:
        ValueError: if the model transforms its logits (soft-capping, scales), which scoring would ignore.
    """
    text_config = model.config.get_text_config()
    for name in _LOGIT_TRANSFORMS:
        if getattr(text_config, name, None) not in (None, 1.0):
            raise ValueError(
                f"{type(model).__name__} transforms its logits ({name}={getattr(text_config, name)}); "
                "tutoring does not support such models yet"
            )
    original_forward = model.forward

    # The original signature stays visible: generate() checks its arguments against it.
    @functools.wraps(type(model).forward)
    def forward(self: PreTrainedModel, *args: Any, score: ScoreRequest | None = None, **kwargs: Any) -> Any:
        if score is None:
            return original_forward(*args, **kwargs)
        outputs = self.base_model(*args, **{**kwargs, "use_cache": False})
        length = score.response_ids.size(1)
        hidden = outputs.last_hidden_state[:, -1 - length : -1]
        return ScoredTokens(hidden=hidden) if score.only_hidden else _score(hidden, head_of(self), score)

    model.forward = types.MethodType(forward, model)


def head_of(model: torch.nn.Module) -> Head:
    """Return the model's head; a sharded one (FSDP2) is gathered, a collective call on all processes."""
    layer = cast(Any, model).get_output_embeddings()
    return Head(_whole(layer.weight), None if layer.bias is None else _whole(layer.bias))


def _whole(parameter: Tensor) -> Tensor:
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


def _score(hidden: Tensor, head: Head, request: ScoreRequest) -> ScoredTokens:
    """Score the response positions of one micro-batch densely: logits [valid tokens, V] are held."""
    mask = request.response_mask
    logits = head.logits(hidden[mask], request.temperature)
    log_p = logits.log_softmax(dim=-1)
    log_probs = log_p.gather(-1, request.response_ids[mask].unsqueeze(-1)).squeeze(-1)
    entropy = -(log_p.exp() * log_p.masked_fill(log_p == -torch.inf, 0.0)).sum(dim=-1)
    # masked_scatter keeps the result connected to the model even when no position is valid.
    empty = log_probs.new_zeros(mask.shape)
    scored = ScoredTokens(log_probs=empty.masked_scatter(mask, log_probs), entropy=empty.masked_scatter(mask, entropy))
    if request.teacher is not None:
        _compare(scored, logits[request.teacher.positions[mask]], request)
    return scored


def _compare(scored: ScoredTokens, student: Tensor, request: ScoreRequest) -> None:
    assert request.teacher is not None
    how, view = request.divergence, request.teacher
    with torch.no_grad():
        teacher = view.head.logits(view.hidden, request.temperature)
    scored.divergence = topk_divergence(student, teacher, k=how.k, kind=how.kind, support=how.support, tail=how.tail)
    agreement = topk_agreement(student, teacher, k=how.k)
    scored.overlap, scored.student_tail, scored.teacher_tail = agreement
