"""Micro-batches measured in tokens: as many groups of a batch as fit a budget are scored together."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from trl.trainer.utils import split_pixel_values_by_grid, unsplit_pixel_values_by_grid

GROUP = "group"


def split_by_tokens(batch: dict[str, Any], budget: int, *, shared: bool) -> list[list[int]]:
    """Return the rows of a batch in parts of at most ``budget`` tokens, in order.

    Neighbours of the same group stay together; a group that exceeds the budget alone is a part of its own.

    Args:
        batch: ``GROUP`` (one number per row), ``prompt_mask`` [B, P] and ``completion_mask`` [B, T].
        budget: tokens per part.
        shared: a group's prompt counts once, as in a packed row; else rows count with their padding.
    """
    prompts, responses = batch["prompt_mask"].sum(dim=1).tolist(), batch["completion_mask"].sum(dim=1).tolist()
    padded = batch["prompt_mask"].size(1) + batch["completion_mask"].size(1)
    parts: list[list[int]] = []
    filled = 0
    for _, members in itertools.groupby(range(len(prompts)), key=lambda row: batch[GROUP][row]):
        group = list(members)
        size = prompts[group[0]] + sum(responses[row] for row in group) if shared else padded * len(group)
        if parts and filled + size <= budget:
            parts[-1] += group
            filled += size
        else:
            parts.append(group)
            filled = size
    return parts


def select_rows(batch: dict[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """Return some rows of a batch, with their images; scalars and ``None`` pass."""
    index = torch.tensor(rows)

    def chosen(value: Any) -> Any:
        if value is None or (isinstance(value, Tensor) and value.ndim == 0):
            return value
        return value[index.to(value.device)] if isinstance(value, Tensor) else [value[row] for row in rows]

    split = split_pixel_values_by_grid(batch)
    return unsplit_pixel_values_by_grid({name: chosen(value) for name, value in split.items()})


@contextmanager
def ragged_gather(accelerator: Any) -> Iterator[None]:
    """Let ``accelerator.gather`` take vectors of unequal length: parts differ in rows between processes.

    They are padded with NaN, which TRL's minima and maxima over rows skip.
    """
    gather = accelerator.gather

    def padded(values: Tensor) -> Tensor:
        ragged = values.ndim == 1 and values.is_floating_point()
        return gather(accelerator.pad_across_processes(values, pad_index=float("nan")) if ragged else values)

    accelerator.gather = padded
    try:
        yield
    finally:
        accelerator.gather = gather
