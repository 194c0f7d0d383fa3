"""Micro-batches measured in tokens: as many groups of a batch as fit a budget are scored together."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from trl.trainer.utils import split_pixel_values_by_grid, unsplit_pixel_values_by_grid

from ptdpo.train.trl.batches import records_of
from ptdpo.train.trl.processes import AccelerateProcesses
from ptdpo.tutor.processes import Processes


def split_by_tokens(
    groups: Sequence[int], prompt_mask: Tensor, response_mask: Tensor, budget: int, *, shared: bool
) -> list[list[int]]:
    """Return the rows of a batch in parts of at most ``budget`` tokens, in order.

    Neighbours of the same group stay together; a group that exceeds the budget alone is a part of its own.

    Args:
        groups: the group of each row.
        prompt_mask: [B, P].
        response_mask: [B, T].
        budget: tokens per part.
        shared: a group's prompt counts once, as in a packed row; else rows count with their padding.
    """
    prompts, responses = prompt_mask.sum(dim=1).tolist(), response_mask.sum(dim=1).tolist()
    padded = prompt_mask.size(1) + response_mask.size(1)
    parts: list[list[int]] = []
    filled = 0
    for _, members in itertools.groupby(range(len(prompts)), key=lambda row: groups[row]):
        group = list(members)
        size = prompts[group[0]] + sum(responses[row] for row in group) if shared else padded * len(group)
        if parts and filled + size <= budget:
            parts[-1] += group
            filled += size
        else:
            parts.append(group)
            filled = size
    return parts


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """How many tokens a model may read at once.

    Attributes:
        tokens: the most; a group that exceeds it alone is read as a whole.
        shared: the rows of a group share their prompt.
        processes: those that read at the same time, and must read in equally many parts.
    """

    tokens: int
    shared: bool
    processes: Processes

    def rows_within(self, attention_mask: Tensor, response_length: int, generations: int, most: int) -> int:
        """Return how many rows of a batch, in order, are scored at once: the same number on every process.

        Args:
            attention_mask: [B, P + T].
            response_length: T.
            generations: G.
            most: rows that memory allows without looking at tokens.
        """
        rows, width = attention_mask.shape
        if self.shared and rows % generations == 0 and most >= generations:
            prompts = attention_mask[:, :-response_length].sum(dim=1).view(-1, generations)[:, 0]
            responses = attention_mask[:, -response_length:].sum(dim=1).view(-1, generations).sum(dim=1)
            groups = max(self.tokens // int((prompts + responses).max()), 1)
            fitting = generations * min(groups, most // generations)
        else:
            fitting = min(max(self.tokens // width, 1), most)
        return self.processes.least(fitting)

    def parts(self, columns: Mapping[str, Any], *, by_rows: bool) -> list[tuple[dict[str, Any], float]]:
        """Split a micro-batch by tokens; returns each part with its share of the RL loss.

        Sharded models need the same number of forwards on every process: those with fewer parts repeat one with
        share 0.

        Args:
            columns: the micro-batch.
            by_rows: its loss is a mean over rows, which is shared out by rows; else it divides by the tokens of the
                whole step itself.
        """
        groups = [record.group for record in records_of(columns)]
        masks = columns["prompt_mask"], columns["completion_mask"]
        rows = split_by_tokens(groups, *masks, self.tokens, shared=self.shared)
        total = sum(map(len, rows))
        shares = [len(part) / total if by_rows else 1.0 for part in rows]
        most = self.processes.most(len(rows))
        parts = [(select_rows(columns, part), share) for part, share in zip(rows, shares, strict=True)]
        return [(parts[0][0], 0.0)] * (most - len(rows)) + parts


def loss_in_parts(
    parts: Sequence[tuple[dict[str, Any], float]],
    loss_of: Callable[[dict[str, Any], float], Tensor],
    accelerator: Accelerator,
    model: torch.nn.Module,
    metrics: Mapping[str, list[float]],
) -> Tensor:
    """Return the loss of a micro-batch of which all parts but the last are differentiated here.

    Logged metrics are those of the micro-batch: means over its tokens, not over its parts.

    Args:
        parts: columns and share of each.
        loss_of: the loss of one.
        accelerator: differentiates.
        model: in training, wrapped.
        metrics: what ``loss_of`` logs into.
    """
    before = {name: len(values) for name, values in metrics.items()}
    done = torch.zeros((), device=accelerator.device)
    for number, (part, share) in enumerate(parts):
        last = number == len(parts) - 1
        with ragged_gather(accelerator), nullcontext() if last else accelerator.no_sync(model):
            loss = loss_of(part, share)
            if not last:
                with torch.autocast(accelerator.device.type, enabled=False):
                    accelerator.backward(loss)
                loss = loss.detach()
        done = done + loss
    tokens = [float(part["completion_mask"].sum()) * (share > 0) for part, share in parts]
    weights = AccelerateProcesses(accelerator).sum(torch.tensor(tokens, device=accelerator.device)).tolist()
    for name, values in metrics.items():
        new = values[before.get(name, 0) :]
        if len(new) == len(parts) > 1:
            values[before.get(name, 0) :] = [combined(name, new, weights)]
    return done


def combined(name: str, values: Sequence[float], weights: Sequence[float]) -> float:
    """Return what a metric of several parts is as a whole: their extreme if that is its name, else their mean."""
    valid = [(value, weight) for value, weight in zip(values, weights, strict=True) if not math.isnan(value)]
    if not valid:
        return math.nan
    if name.endswith(("_min", "_max")):
        return (min if name.endswith("_min") else max)(value for value, _ in valid)
    total = sum(weight for _, weight in valid)
    return sum(value * weight for value, weight in valid) / total if total else valid[0][0]


def select_rows(batch: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """Return some rows of a batch, with their images; scalars and ``None`` pass."""
    index = torch.tensor(rows)

    def chosen(value: Any) -> Any:
        if value is None or (isinstance(value, Tensor) and value.ndim == 0):
            return value
        return value[index.to(value.device)] if isinstance(value, Tensor) else [value[row] for row in rows]

    split = split_pixel_values_by_grid(dict(batch))
    return unsplit_pixel_values_by_grid({name: chosen(value) for name, value in split.items()})


@contextmanager
def ragged_gather(accelerator: Accelerator) -> Iterator[None]:
    """Let ``accelerator.gather`` take vectors of unequal length: parts differ in rows between processes.

    They are padded with NaN, which TRL's minima and maxima over rows skip.
    """
    engine: Any = accelerator
    gather = engine.gather

    def padded(values: Tensor) -> Tensor:
        ragged = values.ndim == 1 and values.is_floating_point()
        return gather(engine.pad_across_processes(values, pad_index=float("nan")) if ragged else values)

    engine.gather = padded
    try:
        yield
    finally:
        engine.gather = gather
