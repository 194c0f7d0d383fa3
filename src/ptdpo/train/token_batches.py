"""Micro-batches measured in tokens: as many groups of a batch as fit a budget are scored together."""

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
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


def rows_within(trainer: Any, attention_mask: Tensor, response_length: int, most: int) -> int:
    """Return how many rows of a batch, in order, are scored at once: the same number on every process.

    Args:
        trainer: for the budget, the groups, and whether their prompts are shared.
        attention_mask: [B, P + T].
        response_length: T.
        most: rows that memory allows without looking at tokens.
    """
    rows, width = attention_mask.shape
    budget, generations = trainer.args.micro_batch_tokens, trainer.num_generations
    if not trainer.model.training:
        generations = trainer.num_generations_eval
    if trainer.shares_prefix and rows % generations == 0 and most >= generations:
        prompts = attention_mask[:, :-response_length].sum(dim=1).view(-1, generations)[:, 0]
        responses = attention_mask[:, -response_length:].sum(dim=1).view(-1, generations).sum(dim=1)
        groups = max(budget // int((prompts + responses).max()), 1)
        fitting = generations * min(groups, most // generations)
    else:
        fitting = min(max(budget // width, 1), most)
    return int(trainer.accelerator.gather(torch.tensor([fitting], device=attention_mask.device)).min())


def loss_in_parts(trainer: Any, model: Any, inputs: dict[str, Any]) -> Tensor:
    """Return the loss of a micro-batch of which all parts but the last are differentiated here.

    Logged metrics are those of the micro-batch: means over its tokens, not over its parts.
    """
    accelerator, metrics = trainer.accelerator, trainer._metrics["train"]
    parts = _parts(trainer, inputs)
    before = {name: len(values) for name, values in metrics.items()}
    done = torch.zeros((), device=accelerator.device)
    for number, (part, share) in enumerate(parts):
        last = number == len(parts) - 1
        with ragged_gather(accelerator), nullcontext() if last else accelerator.no_sync(model):
            loss = trainer.loss_of_part(model, part, share)
            if not last:
                with torch.autocast(accelerator.device.type, enabled=False):
                    accelerator.backward(loss)
                loss = loss.detach()
        done = done + loss
    tokens = [float(part["completion_mask"].sum()) * (share > 0) for part, share in parts]
    weights = accelerator.reduce(torch.tensor(tokens, device=accelerator.device), reduction="sum").tolist()
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


def _parts(trainer: Any, inputs: dict[str, Any]) -> list[tuple[dict[str, Any], float]]:
    """Split a micro-batch by tokens; returns each part with its share of the RL loss.

    Sharded models need the same number of forwards on every process: those with fewer parts repeat one with share 0.
    """
    rows = split_by_tokens(inputs, trainer.args.micro_batch_tokens, shared=trainer.shares_prefix)
    total = sum(map(len, rows))
    # Means over rows are shared out by rows; DAPO divides by the tokens of the whole step itself.
    shares = [1.0 if trainer.args.loss_type == "dapo" else len(part) / total for part in rows]
    most = int(trainer.accelerator.gather(torch.tensor([len(rows)], device=trainer.accelerator.device)).max())
    parts = [(select_rows(inputs, part), share) for part, share in zip(rows, shares, strict=True)]
    return [(parts[0][0], 0.0)] * (most - len(rows)) + parts


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
