"""Micro-batches that keep groups together, so that the rows of a group can share their prompt."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from trl.trainer import grpo_trainer

from ptdpo.tutor.groups import group_of_rows


def shuffle_groups(rows: dict[str, Any], *, generations: int, first_row: int) -> dict[str, Any]:
    """Return a process's rollouts with its groups in random order; the order within a group stays.

    Args:
        rows: tensors and lists with one entry per rollout; scalars and ``None`` pass.
        generations: G, rollouts per group.
        first_row: how many rollouts the processes before this one hold: a group may begin there.
    """
    count = len(next(value for value in rows.values() if value is not None))
    group = torch.tensor(group_of_rows(count, generations, first_row))
    group -= group[0].clone()
    rank = torch.randperm(int(group[-1]) + 1)
    order = rank[group].argsort(stable=True)

    def ordered(value: Any) -> Any:
        if value is None or (isinstance(value, Tensor) and value.ndim == 0):
            return value
        return value[order.to(value.device)] if isinstance(value, Tensor) else [value[row] for row in order.tolist()]

    return {name: ordered(value) for name, value in rows.items()}


@contextmanager
def groups_kept_together(generations: int, first_row: int) -> Iterator[None]:
    """While this lasts, TRL shuffles groups where it would shuffle single rollouts."""
    original = grpo_trainer.shuffle_sequence_dict
    grpo_trainer.shuffle_sequence_dict = partial(shuffle_groups, generations=generations, first_row=first_row)
    try:
        yield
    finally:
        grpo_trainer.shuffle_sequence_dict = original
