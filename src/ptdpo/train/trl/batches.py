"""Between TRL's batches, mappings of columns, and the records of the seam."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ptdpo.models.family import TOKEN_TYPES
from ptdpo.train.engine import RolloutRecord
from ptdpo.tutor.processes import Processes

# The one column that is ours: a list with a ``RolloutRecord`` per row, which survives TRL's shuffle and split.
RECORDS = "rollout_records"

# What TRL batches with the response along the last dimension, and what fills new columns.
_PER_RESPONSE_TOKEN = {
    "completion_mask": 0,
    "old_per_token_logps": 0.0,
    "ref_per_token_logps": 0.0,
    "sampling_per_token_logps": 0.0,
    "importance_sampling_ratio": 1.0,
    **dict.fromkeys(TOKEN_TYPES, 0),
}


@dataclass(frozen=True, slots=True)
class TrlContent:
    """What TRL knows of a batch.

    Attributes:
        columns: as TRL batches them.
        model: by which it is scored, wrapped where it is trained.
        rows_at_once: how many rows are scored at once; ``None``: all.
    """

    columns: Mapping[str, Any]
    model: Any
    rows_at_once: int | None = None


def records_of(columns: Mapping[str, Any]) -> Sequence[RolloutRecord]:
    """Return what of ours travels with the rows; nothing where the method adds nothing."""
    return columns.get(RECORDS, ())


def written_by_policy(columns: Mapping[str, Any]) -> Tensor:
    """Return [rows, T] bool, the response tokens that the policy wrote: not padding, nor what tools answered."""
    mask = columns["completion_mask"].bool()
    return mask & columns["tool_mask"].bool() if "tool_mask" in columns else mask


def replace_responses(
    columns: dict[str, Any], new: Mapping[int, Sequence[int]], padding: int, processes: Processes
) -> None:
    """Write responses into rows of TRL's batch, widened where they are longer; a collective call.

    Args:
        columns: changed in place, as TRL's own batch that nobody else holds yet.
        new: row -> ids.
        padding: the id that pads.
        processes: over which response tokens are counted anew.
    """
    width = columns["completion_ids"].size(1)
    more = max(0, max(map(len, new.values()), default=0) - width)
    for name, fill in {**_PER_RESPONSE_TOKEN, "completion_ids": padding}.items():
        # Importance ratios of whole sequences have one column.
        if name in columns and columns[name].size(1) in (width, width + columns["prompt_ids"].size(1)):
            columns[name] = torch.nn.functional.pad(columns[name], (0, more), value=fill)
    for row, ids in new.items():
        columns["completion_ids"][row] = padding
        columns["completion_ids"][row, : len(ids)] = _like(columns["completion_ids"], ids)
        columns["completion_mask"][row] = 0
        columns["completion_mask"][row, : len(ids)] = 1
    columns["num_items_in_batch"] = processes.sum(columns["completion_mask"].sum())


def trust_responses(columns: dict[str, Any], foreign: Collection[int]) -> None:
    """Take responses for the policy's own that it drew under another prompt than the one under which it is scored.

    What the sampler thought of them is no measure of how far it has strayed from the policy.

    Args:
        columns: changed in place, as by ``replace_responses``.
        foreign: their rows.
    """
    if foreign and "importance_sampling_ratio" in columns:
        columns["importance_sampling_ratio"][sorted(foreign)] = 1.0


def _like(tensor: Tensor, values: Sequence[int]) -> Tensor:
    return torch.tensor(values, device=tensor.device)
