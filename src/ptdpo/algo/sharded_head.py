"""The tutored head where the vocabulary is parted over processes, as Megatron and tensor-parallel engines have it.

Every process holds all hidden states and some rows of the head. The numbers are those of ``ptdpo.algo.lm_head`` on the
whole head: a row's Top-K is found among the shards' own Top-K, and sums over the vocabulary are reduced. Per token the
network carries Top-K ids and values of every shard and a few sums, never logits. A head parted along its other
dimension, H, is gathered instead: ``ptdpo.algo.sharded``.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ptdpo.algo.chunks import ChunkedHead
from ptdpo.algo.divergence import Kind, Support, Tail, check_settings
from ptdpo.algo.fused import FusedStats, reduced
from ptdpo.algo.head_checks import check_tokens, checked_rows, operands, rows_at_once
from ptdpo.algo.shapes import Bool, Float, Int
from ptdpo.algo.support import HeadSettings
from ptdpo.algo.teacher_topk import TeacherTopK
from ptdpo.algo.token_stats import TokenStats
from ptdpo.algo.vocabulary import VocabularyShard

__all__ = ["ShardedTeacherTopK", "VocabularyShard", "sharded_teacher_topk", "sharded_token_stats"]


@dataclass(frozen=True, slots=True)
class ShardedTeacherTopK(TeacherTopK):
    """As ``TeacherTopK``, with ids of the whole vocabulary; ``weight`` and ``bias`` are the rows held here.

    Attributes:
        shard: which rows they are.
    """

    shard: VocabularyShard | None = None

    def _logits_at(
        self, ids: Int[Tensor, "n s"], needed: Bool[Tensor, "n s"] | None, backend: Literal["torch", "triton"]
    ) -> Float[Tensor, "n s"]:
        """A collective call: each process computes those of the ids that it holds."""
        assert self.shard is not None, "the record does not say which ids its head holds"
        local, here = self.shard.local(ids)
        # A dataclass with slots is made anew, which ``super()`` does not know.
        values = TeacherTopK._logits_at(self, local, here, backend)
        return self.shard.total(values.masked_fill(~here, 0.0))


@torch.no_grad()
def sharded_teacher_topk(
    hidden: Float[Tensor, "n hidden"],
    weight: Float[Tensor, "held hidden"],
    shard: VocabularyShard,
    bias: Float[Tensor, " held"] | None = None,
    *,
    k: int = 100,
    temperature: float = 1.0,
    row_chunk: int | None = None,
) -> ShardedTeacherTopK:
    """Reduce a teacher's distributions to their Top-K, as ``teacher_topk``; a collective call.

    Args:
        hidden: last hidden states, the same on every process of the group.
        weight: the rows of the head that are held here; of a ``DTensor``, ``to_local()``.
        shard: which rows they are: ``VocabularyShard.of(weight, group)``.
        bias: the head's bias for these rows.
        k: how many ids to keep; larger than the vocabulary means all.
        temperature: the sampling temperature.
        row_chunk: tokens whose logits are held at once, the same number everywhere; chosen by memory by default.

    Raises:
        ValueError: as ``teacher_topk``, and if the weight has fewer rows than the shard.
    """
    weight, bias = _held(weight, bias, shard)
    hidden, weight = operands("teacher", hidden, weight, bias, temperature)
    check_settings(k)
    with torch.autocast(hidden.device.type, enabled=False):
        head = ChunkedHead(weight, bias, temperature)
        columns = reduced(hidden, head, min(k, shard.vocabulary), _row_chunk(row_chunk, weight, shard), shard)
        return ShardedTeacherTopK(hidden, *columns, temperature, weight, bias, shard=shard)


def sharded_token_stats(
    hidden: Float[Tensor, "n hidden"],
    weight: Float[Tensor, "held hidden"],
    targets: Int[Tensor, " n"],
    shard: VocabularyShard,
    bias: Float[Tensor, " held"] | None = None,
    *,
    teacher: ShardedTeacherTopK | None = None,
    rows: Int[Tensor, " tutored"] | None = None,
    k: int = 100,
    temperature: float = 1.0,
    kind: Kind = "jsd",
    support: Support = "union",
    tail: Tail = "bucket",
    row_chunk: int | None = None,
    vocab_chunk: int | None = None,
) -> TokenStats:
    """Score tokens and compare some of them with a teacher, as ``token_stats``; forward and backward are collective.

    Every process gets all numbers and computes the same loss. The gradient of ``hidden`` is whole: it is summed over
    the group here and must not be summed again. Those of ``weight`` and ``bias`` are of the rows held here.

    Args:
        hidden: the student's last hidden states, the same on every process of the group; receives a gradient.
        weight: the rows of the head that are held here; receives a gradient.
        targets: ids of the whole vocabulary.
        shard: which rows they are; the teacher's must be the same.
        bias: the head's bias for these rows; receives a gradient.
        teacher: as in ``token_stats``, by ``sharded_teacher_topk``.
        rows: as in ``token_stats``, as are the settings that follow.
        k: size of the student's Top-K.
        temperature: the sampling temperature.
        kind: of the divergence.
        support: of the divergence.
        tail: of the divergence.
        row_chunk: as in ``sharded_teacher_topk``.
        vocab_chunk: held ids whose logits the backward pass holds.

    Raises:
        ValueError: as ``token_stats``, if the weight has fewer rows than the shard, or the teacher another shard.
    """
    weight, bias = _held(weight, bias, shard)
    hidden, weight = operands("student", hidden, weight, bias, temperature)
    check_settings(k, kind, support, tail)
    check_tokens(hidden, targets, shard.vocabulary, vocab_chunk)
    if teacher is not None and teacher.shard != shard:
        raise ValueError(f"teacher and student must part the vocabulary alike, got {teacher.shard} and {shard}")
    rows = checked_rows(rows, teacher, hidden, weight, temperature)
    chunk = _row_chunk(row_chunk, weight, shard)
    settings = HeadSettings(min(k, shard.vocabulary), temperature, kind, support, tail, chunk, vocab_chunk)
    with torch.autocast(hidden.device.type, enabled=False):
        return TokenStats(*FusedStats.apply(hidden, weight, bias, targets, rows, teacher, settings, shard))


def _held(weight: Tensor, bias: Tensor | None, shard: VocabularyShard) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias without padding."""
    if len(weight) < shard.size:
        raise ValueError(
            f"the shard holds {shard.size} ids but the head {len(weight)} rows: VocabularyShard.of(weight)"
        )
    return weight[: shard.size], None if bias is None else bias[: shard.size]


def _row_chunk(row_chunk: int | None, weight: Tensor, shard: VocabularyShard) -> int:
    """Return how many tokens share a round of collective calls: by the largest shard, so the same everywhere."""
    return rows_at_once(row_chunk, shard.largest, weight.is_cuda, "torch")
