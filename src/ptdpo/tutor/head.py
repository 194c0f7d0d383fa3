"""Scoring inside the model's own forward: log-probability, entropy and divergence at response positions.

Parallel engines (DDP, FSDP2, DeepSpeed) see an ordinary call of the model that returns a ``ModelOutput``, and within it
one of the layer that owns the head.
"""

import functools
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func
from transformers.utils.generic import ModelOutput

from ptdpo.algo.backends import Backend
from ptdpo.algo.dense_head import dense_token_stats
from ptdpo.algo.divergence import Kind, Support, Tail
from ptdpo.algo.full_head import full_head_divergence
from ptdpo.algo.lm_head import TeacherTopK, teacher_topk, token_stats
from ptdpo.algo.sharded import whole
from ptdpo.models.sharded import gathered
from ptdpo.models.shared_prefix import enable_shared_prefix, shared_hidden_states
from ptdpo.runlog.lines import LEADING

_LOGIT_TRANSFORMS = (
    "final_logit_softcapping",
    "logit_scale",
    "output_multiplier",
    "lm_head_multiplier",
    "logits_scaling",
)


HeadName = Literal["fused", "torch", "dense"]


@dataclass(frozen=True, slots=True)
class Divergence:
    """Which divergence tutoring uses: that of ``topk_divergence``, or with support ``full`` of ``full_divergence``."""

    k: int = 100
    kind: Kind = "jsd"
    support: Support | Literal["full"] = "union"
    tail: Tail = "bucket"
    clip: float | None = None


class HeadWeights(NamedTuple):
    """A language-model head as plain tensors: weight [V, H], bias [V] or ``None``."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True, slots=True)
class TeacherView:
    """What the teacher left for one micro-batch.

    Attributes:
        positions: [B, T] bool, the tutored response positions.
        record: the teacher there, row by row, with its head.
    """

    positions: Tensor
    record: TeacherTopK


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """What a scoring forward shall compute. A plain object: engines cast or split the containers they know.

    Attributes:
        response_ids: [B, T], the last T tokens of each row.
        response_mask: [B, T] bool, False at padding.
        temperature: the sampling temperature; teacher and student logits are divided by it.
        teacher: what the teacher left, ``None`` when nothing of this micro-batch is compared.
        divergence: how to compare.
        head: fused, by the quickest backend there is; torch, fused by torch alone; or dense, the readable reference.
        leading: [B, T] bool, positions whose most probable tokens are returned too; ``None``: nowhere.
        reduce_to: return the distributions themselves, reduced to their Top-K of this size, instead of scores.
        reduced: [B, T] bool, at which of the valid positions; ``None``: at all.
        with_entropy: with ``reduce_to``, the entropies of the whole distributions too: one more product with the head.
    """

    response_ids: Tensor
    response_mask: Tensor
    temperature: float = 1.0
    teacher: TeacherView | None = None
    divergence: Divergence = Divergence()
    head: HeadName = "fused"
    leading: Tensor | None = None
    reduce_to: int | None = None
    reduced: Tensor | None = None
    with_entropy: bool = False


@dataclass(frozen=True, slots=True)
class ScoreDetails:
    """What a scoring forward returns besides log-probabilities.

    A plain object, in which engines see no tensors: they tie hooks to each tensor that comes out of a layer, and only
    log-probabilities get a gradient on every process, whatever is tutored there.

    Attributes:
        entropy: [B, T], entropy of the next-token distribution in nats; 0 at padding.
        divergence: [n], one per tutored position, in the order of ``TeacherView.record``.
        overlap: [n], Top-K overlap, no gradient.
        student_tail: [n], student mass outside the support, no gradient.
        teacher_tail: [n], teacher mass outside the support, no gradient.
        record: the distributions at all valid positions, without their head; only for ``ScoreRequest.reduce_to``.
        expert_balance: the load-balancing loss of experts over all positions that are no padding, a scalar; only where
            the call asks for ``output_router_logits``.
        leading: the distributions at the positions of ``ScoreRequest.leading``, reduced to their ``LEADING`` first.
    """

    entropy: Tensor | None = None
    divergence: Tensor | None = None
    overlap: Tensor | None = None
    student_tail: Tensor | None = None
    teacher_tail: Tensor | None = None
    record: TeacherTopK | None = None
    expert_balance: Tensor | None = None
    leading: TeacherTopK | None = None


@dataclass
class ScoredTokens(ModelOutput):
    """What a scoring forward returns.

    Attributes:
        log_probs: [B, T], log-probability of each response token; 0 at padding.
        details: the rest, out of the sight of engines.
    """

    # An engine that casts outputs rebuilds them from one mapping, which arrives in the first field.
    log_probs: Any = None
    # ModelOutput wants a default, but it is always there.
    details: ScoreDetails = None  # type: ignore[assignment]


_Result = tuple[Tensor | None, ScoreDetails]


def add_scoring_head(model: PreTrainedModel, *, share_prefix: bool = False) -> bool:
    """Let ``model(..., score=ScoreRequest)`` return ``ScoredTokens``; other calls stay as they are.

    Args:
        model: the model, without an engine's wrapper.
        share_prefix: read a prompt that several rows have in common once, if the model can.

    Returns:
        Whether it can, and does.

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
    share_prefix = share_prefix and enable_shared_prefix(model)
    original_forward = model.forward

    # The original signature stays visible: generate() checks its arguments against it.
    @functools.wraps(type(model).forward)
    def forward(self: PreTrainedModel, *args: Any, score: ScoreRequest | None = None, **kwargs: Any) -> Any:
        if score is None:
            return original_forward(*args, **kwargs)
        hidden, balance = shared_hidden_states(self, kwargs, score.response_mask) if share_prefix else None, None
        if hidden is None:
            outputs = self.base_model(*args, **{**kwargs, "use_cache": False})
            hidden = outputs.last_hidden_state[:, -1 - score.response_ids.size(1) : -1]
            if kwargs.get("output_router_logits"):
                balance = _expert_balance(text_config, outputs.router_logits, kwargs.get("attention_mask"))
        work = _score if score.reduce_to is None else _reduce
        log_probs, details = _in_forward_of(self.get_output_embeddings(), work, hidden, score)
        return ScoredTokens(log_probs, details if balance is None else replace(details, expert_balance=balance))

    model.forward = types.MethodType(forward, model)
    return share_prefix


def _expert_balance(config: Any, router_logits: Any, attention_mask: Tensor | None) -> Tensor:
    """Return the load-balancing loss as the models themselves compute it: all mixtures of experts share Mixtral's."""
    loss = load_balancing_loss_func(router_logits, config.num_experts, config.num_experts_per_tok, attention_mask)
    assert isinstance(loss, Tensor)
    return loss


@torch.no_grad()
def head_of(model: torch.nn.Module) -> HeadWeights:
    """Return the model's head without gradient; a sharded one is gathered, a collective call on all processes."""
    layer = cast(Any, model).get_output_embeddings()
    with gathered(layer.weight, layer.bias):
        weight, bias = _weights(layer)
        # ZeRO-3 takes the parameters away again, not what they held.
        return HeadWeights(weight.detach(), None if bias is None else bias.detach())


def _weights(layer: Any) -> HeadWeights:
    bias = getattr(layer, "bias", None)
    return HeadWeights(whole(layer.weight), None if bias is None else whole(bias))


def _in_forward_of(layer: Any, work: Callable[..., _Result], hidden: Tensor, request: ScoreRequest) -> _Result:
    """Return ``work(hidden, head, request)``, run in place of the forward of the layer that owns the head.

    Engines that shard weights make them whole around a layer's forward and backward pass, and take its gradient from
    there. DeepSpeed finds the passes by the tensors that go in and come out.
    """
    own = vars(layer).get("forward")
    layer.forward = lambda states: work(states, _weights(layer), request)
    try:
        return layer(hidden)
    finally:
        del layer.forward
        if own is not None:
            layer.forward = own


def _reduce(hidden: Tensor, head: HeadWeights, request: ScoreRequest) -> _Result:
    """Reduce the distributions at the response positions of one micro-batch, row by row."""
    assert request.reduce_to is not None
    states = hidden[request.response_mask if request.reduced is None else request.reduced]
    record = teacher_topk(
        states, *head, k=request.reduce_to, temperature=request.temperature, backend=_backend(request)
    )
    if request.with_entropy:
        targets = torch.zeros(len(states), dtype=torch.long, device=states.device)
        scored = token_stats(
            states, head.weight, targets, head.bias, temperature=request.temperature, backend=_backend(request)
        )
        record = replace(record, entropy=scored.entropy)
    return None, ScoreDetails(record=record.with_head(None))


def _score(hidden: Tensor, head: HeadWeights, request: ScoreRequest) -> _Result:
    """Score the response positions of one micro-batch, and compare those that are tutored."""
    mask, divergence, view = request.response_mask, request.divergence, request.teacher
    fused = functools.partial(token_stats, backend=_backend(request))
    score = dense_token_stats if request.head == "dense" else fused
    # index_select, because the backward pass of a boolean index is far slower on a CPU.
    states = hidden.flatten(0, 1).index_select(0, mask.flatten().nonzero().squeeze(-1))
    targets = request.response_ids[mask]
    compared: dict[str, Any] = {}
    rows = None if view is None else view.positions[mask].nonzero().squeeze(-1)
    if view is not None and divergence.support != "full":
        compared = {"teacher": view.record, "rows": rows, "k": divergence.k, "kind": divergence.kind}
        compared |= {"support": divergence.support, "tail": divergence.tail}
    stats = score(states, head.weight, targets, head.bias, temperature=request.temperature, **compared)
    if view is not None and divergence.support == "full":
        stats = stats._replace(divergence=_full(states[rows], head, view.record, request))
    # masked_scatter keeps the result connected to the model even when no position is valid.
    empty = stats.log_prob.new_zeros(mask.shape)
    log_probs, entropy = empty.masked_scatter(mask, stats.log_prob), empty.masked_scatter(mask, stats.entropy)
    leading = None
    if request.leading is not None and request.leading.any():
        leading = leading_tokens(states[request.leading[mask]], head, request.temperature)
    if view is None:
        return log_probs, ScoreDetails(entropy, leading=leading)
    compared_to = (stats.divergence, stats.overlap, stats.student_tail, stats.teacher_tail)
    return log_probs, ScoreDetails(entropy, *compared_to, leading=leading)


def _backend(request: ScoreRequest) -> Backend:
    return "auto" if request.head == "fused" else "torch"


@torch.no_grad()
def leading_tokens(states: Tensor, head: HeadWeights, temperature: float) -> TeacherTopK:
    """Return the ``LEADING`` most probable tokens at hidden states [n, H], without a head and gradient."""
    k = min(LEADING, head.weight.size(0))
    return teacher_topk(states, *head, k=k, temperature=temperature).with_head(None)


def _full(hidden: Tensor, head: HeadWeights, record: TeacherTopK, request: ScoreRequest) -> Tensor:
    kind, clip = request.divergence.kind, request.divergence.clip
    return full_head_divergence(
        hidden, head.weight, head.bias, record, temperature=request.temperature, kind=kind, clip=clip
    )
