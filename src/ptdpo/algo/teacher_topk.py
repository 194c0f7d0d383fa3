"""What the fused head keeps of a teacher: its Top-K, and the means to compute its other probabilities singly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ptdpo.algo.chunks import CACHED, NEVER, slices
from ptdpo.algo.shapes import Bool, Float, Int


@dataclass(frozen=True, slots=True)
class TeacherTopK:
    """A teacher's next-token distributions at n tokens, reduced to what a divergence needs; no gradient.

    Attributes:
        hidden: [n, H], the last hidden states, from which ``log_probs_at`` finds the probability of any id.
        ids: [n, k], the Top-K ids, largest logit first.
        log_probs: [n, k], log q of those ids.
        log_rest: [n], log of the mass outside them; ``-inf`` if nothing is outside.
        log_normaliser: [n], log-sum-exp of the logits.
        temperature: by which the logits were divided.
        weight: [V, H], the head; ``None`` while the record is stored without it.
        bias: [V] or ``None``.
        entropy: [n], of the whole distributions, in nats; ``None`` where nobody asks for it.
    """

    hidden: Float[Tensor, "n hidden"]
    ids: Int[Tensor, "n k"]
    log_probs: Float[Tensor, "n k"]
    log_rest: Float[Tensor, " n"]
    log_normaliser: Float[Tensor, " n"]
    temperature: float
    weight: Float[Tensor, "vocab hidden"] | None = None
    bias: Float[Tensor, " vocab"] | None = None
    entropy: Float[Tensor, " n"] | None = None

    def __len__(self) -> int:
        return self.ids.size(0)

    def __getitem__(self, rows: Any) -> "TeacherTopK":
        """Return the record of some tokens."""
        return self._changed(lambda tensor: tensor[rows])

    def to(self, device: torch.device | str) -> "TeacherTopK":
        """Return the record with its per-token tensors on a device."""
        return self._changed(lambda tensor: tensor.to(device))

    def with_head(
        self, weight: Float[Tensor, "vocab hidden"] | None, bias: Float[Tensor, " vocab"] | None = None
    ) -> "TeacherTopK":
        """Return the record with this head, or without one."""
        return replace(self, weight=weight, bias=bias)

    def log_probs_at(
        self,
        ids: Int[Tensor, "n s"],
        needed: Bool[Tensor, "n s"] | None = None,
        backend: Literal["torch", "triton"] = "torch",
    ) -> Float[Tensor, "n s"]:
        """Return log q [n, s] at any ids [n, s]: one dot product each, no product with the whole head.

        Args:
            ids: of the vocabulary.
            needed: where the result will be used; elsewhere it may be anything. ``None``: everywhere.
            backend: who computes the products.
        """
        return self._logits_at(ids, needed, backend) / self.temperature - self.log_normaliser.unsqueeze(-1)

    def _logits_at(
        self, ids: Int[Tensor, "n s"], needed: Bool[Tensor, "n s"] | None, backend: Literal["torch", "triton"]
    ) -> Float[Tensor, "n s"]:
        assert self.weight is not None, "the record was stored without its head"
        if backend == "triton":
            from ptdpo.algo.triton_calls import dots

            values = dots(self.hidden, self.weight, ids, needed, self.log_probs.dtype)
        else:
            values = self._dots(self.weight, ids)
        if self.bias is not None:
            values += self.bias[ids].to(values.dtype).clamp_min(NEVER)
        return values

    def _dots(self, weight: Float[Tensor, "vocab hidden"], ids: Int[Tensor, "n s"]) -> Float[Tensor, "n s"]:
        values = self.log_probs.new_empty(ids.shape)
        for rows in slices(len(self), max(1, 8 * CACHED // (ids.size(1) * weight.size(1)))):
            states, chosen = self.hidden[rows].to(values.dtype), weight[ids[rows]].to(values.dtype)
            values[rows] = torch.bmm(chosen, states.unsqueeze(-1)).squeeze(-1)
        return values

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "TeacherTopK":
        entropy = None if self.entropy is None else change(self.entropy)
        return replace(self, entropy=entropy, **{name: change(getattr(self, name)) for name in _PER_TOKEN})


_PER_TOKEN = tuple(field.name for field in fields(TeacherTopK))[:5]


def concatenate(records: Sequence[TeacherTopK]) -> TeacherTopK:
    """Return one record of all tokens, in order, with the head of the first.

    Raises:
        ValueError: if there is no record, or they differ in k or temperature.
    """
    if not records:
        raise ValueError("there is no teacher record to concatenate")
    kinds = {(record.ids.size(1), record.temperature) for record in records}
    if len(kinds) > 1:
        raise ValueError(f"teacher records to concatenate must share k and temperature, got {sorted(kinds)}")
    known = [record.entropy for record in records if record.entropy is not None]
    entropy = torch.cat(known) if len(known) == len(records) else None
    joined = {name: torch.cat([getattr(record, name) for record in records]) for name in _PER_TOKEN}
    return replace(records[0], entropy=entropy, **joined)
