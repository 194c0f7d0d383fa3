"""Where the ids of a vocabulary lie: all here, or parted over a group of processes; and what needs all of them."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from ptdpo.algo.chunks import NEVER, log_sum, log_total, topk_ids
from ptdpo.algo.shapes import Bool, Float, Int


class Vocabulary:
    """All ids lie here: every method is the plain one."""

    def topk(self, padded: Float[Tensor, "rows width"], held: int, k: int) -> Int[Tensor, "rows k"]:
        """Return the ids of the k largest logits; ``padded`` as in ``topk_ids``, with so many ids held here."""
        return topk_ids(padded, held, k)

    def at(self, logits: Float[Tensor, "rows held"], ids: Int[Tensor, "rows s"]) -> Float[Tensor, "rows s"]:
        """Return the logits of any ids."""
        return logits.gather(-1, ids)

    def erase(self, logits: Float[Tensor, "rows held"], ids: Int[Tensor, "rows s"]) -> None:
        """Make these ids absent."""
        logits.scatter_(-1, ids, NEVER)

    def log_total(self, logits: Float[Tensor, "rows held"]) -> Float[Tensor, " rows"]:
        """Return the log-sum-exp of whole rows."""
        return log_total(logits)

    def log_sum(self, logits: Float[Tensor, "rows held"]) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
        """Return the log-sum-exp L of whole rows, and the mean of logit - L."""
        return log_sum(logits)

    def local(self, ids: Int[Tensor, "*shape"]) -> tuple[Int[Tensor, "*shape"], Bool[Tensor, "*shape"] | None]:
        """Return the ids counted from the first that is held here, and which are; ``None``: all."""
        return ids, None

    def total(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the sum over the processes."""
        return values


@dataclass(frozen=True, slots=True)
class VocabularyShard(Vocabulary):
    """The ids [start, start + size) of a vocabulary, held by this process of a group.

    Every method but ``local`` and ``erase`` is a collective call: all processes of the group make it, in the same
    shapes.

    Attributes:
        start: the first id held here.
        size: how many are held here.
        vocabulary: how many there are in all.
        largest: how many the process holds that has most of them.
        group: of the processes that hold the others; ``None``: all processes.
    """

    start: int
    size: int
    vocabulary: int
    largest: int
    group: dist.ProcessGroup | None = None

    @classmethod
    def of(
        cls, weight: Float[Tensor, "held hidden"], group: dist.ProcessGroup | None = None, vocabulary: int | None = None
    ) -> "VocabularyShard":
        """Return what is held of a head: consecutive ids in the order of the ranks. A collective call.

        Args:
            weight: the rows held here; how many may differ between processes.
            group: as in the class.
            vocabulary: how many ids exist; rows beyond are padding, as Megatron adds it, and have probability 0.

        Raises:
            ValueError: if there are fewer rows than ids, or a process would hold padding only; on every process.
        """
        mine = torch.tensor([len(weight)], device=weight.device)
        sizes = [torch.zeros_like(mine) for _ in range(dist.get_world_size(group))]
        dist.all_gather(sizes, mine, group=group)
        rows = [int(size) for size in sizes]
        exist = sum(rows) if vocabulary is None else vocabulary
        starts = [sum(rows[:rank]) for rank in range(len(rows))]
        if not 0 < exist <= sum(rows):
            raise ValueError(
                f"the vocabulary has {exist} ids but the {len(rows)} processes hold {rows} rows of the head"
            )
        if empty := [rank for rank, start in enumerate(starts) if start >= exist]:
            raise ValueError(f"of {exist} ids the processes {empty} of the group hold none: they hold {rows} rows")
        held = [min(size, exist - start) for size, start in zip(rows, starts, strict=True)]
        rank = dist.get_rank(group)
        return cls(starts[rank], held[rank], exist, max(held), group)

    def topk(self, padded: Float[Tensor, "rows width"], held: int, k: int) -> Int[Tensor, "rows k"]:
        """Return the ids of the k largest logits: each lies among the k largest of its shard."""
        local = topk_ids(padded, held, min(k, held))
        missing = (0, k - local.size(1))
        values = torch.nn.functional.pad(padded.gather(-1, local), missing, value=-torch.inf)
        chosen = self._side_by_side(values).topk(k, dim=-1).indices
        return self._side_by_side(torch.nn.functional.pad(local + self.start, missing)).gather(-1, chosen)

    def at(self, logits: Float[Tensor, "rows held"], ids: Int[Tensor, "rows s"]) -> Float[Tensor, "rows s"]:
        """Return the logits of any ids, wherever they are held."""
        local, here = self.local(ids)
        return self.total(logits.gather(-1, local).masked_fill(~here, 0.0))

    def erase(self, logits: Float[Tensor, "rows held"], ids: Int[Tensor, "rows s"]) -> None:
        """Make those of these ids absent that are held here."""
        local, here = self.local(ids)
        row, slot = here.nonzero(as_tuple=True)
        logits[row, local[row, slot]] = NEVER

    def log_total(self, logits: Float[Tensor, "rows held"]) -> Float[Tensor, " rows"]:
        """Return the log-sum-exp of whole rows."""
        return self._side_by_side(log_total(logits).unsqueeze(-1)).logsumexp(dim=-1)

    def log_sum(self, logits: Float[Tensor, "rows held"]) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
        """Return the log-sum-exp L of whole rows, and the mean of logit - L."""
        part, mean = log_sum(logits)
        whole = self._side_by_side(part.unsqueeze(-1)).logsumexp(dim=-1)
        below = (part - whole).masked_fill(part == -torch.inf, NEVER)
        return whole, self.total(below.exp() * (mean + below))

    def local(self, ids: Int[Tensor, "*shape"]) -> tuple[Int[Tensor, "*shape"], Bool[Tensor, "*shape"]]:
        """Return the ids counted from ``start``, 0 for those held elsewhere, and which are held here."""
        here = (ids >= self.start) & (ids < self.start + self.size)
        return (ids - self.start).masked_fill(~here, 0), here

    def total(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the sum over the processes, taken in float32 or wider."""
        summed = values.to(torch.promote_types(values.dtype, torch.float32), copy=True).contiguous()
        dist.all_reduce(summed, group=self.group)
        return summed.to(values.dtype)

    def _side_by_side(self, values: Tensor) -> Tensor:
        """Return the processes' [r, n] as one [r, processes * n]."""
        parts = [torch.empty_like(values) for _ in range(dist.get_world_size(self.group))]
        dist.all_gather(parts, values.contiguous(), group=self.group)
        return torch.cat(parts, dim=-1)


WHOLE = Vocabulary()
