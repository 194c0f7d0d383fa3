"""HDPO: where a whole group fails, responses drawn under the teacher's context take its place, if they are right."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from ptdpo.data.prompts import Prompt
from ptdpo.train.rollouts import accuracy_of, generate, unlogged

# What TRL batches with the response along the last dimension, and what fills new columns.
_PER_RESPONSE_TOKEN = {
    "completion_mask": 0,
    "old_per_token_logps": 0.0,
    "ref_per_token_logps": 0.0,
    "sampling_per_token_logps": 0.0,
    "importance_sampling_ratio": 1.0,
    "token_type_ids": 0,
    "mm_token_type_ids": 0,
}


def exchange_rollouts(
    trainer: Any,
    inputs: list[dict[str, Any]],
    output: dict[str, Any],
    contexts: Sequence[Prompt | None],
    chosen: Tensor,
) -> Tensor:
    """Exchange rollouts of all-fail groups, in place, for right ones that the policy's weights drew under the context.

    The student is then scored on them without the context, and tutored there. They were not drawn from the policy, so
    their advantage is 0. A row whose new response is wrong keeps its own and is not tutored.

    Args:
        trainer: the trainer.
        inputs: the rows of the data set, one per rollout.
        output: the rollouts as TRL batches them.
        contexts: what the teacher reads for each.
        chosen: [B] bool, the rows of whole groups that all fail.

    Returns:
        [B] bool, the rows that were exchanged.
    """
    generations, accelerator = trainer.num_generations, trainer.accelerator
    groups = chosen.view(-1, generations).all(dim=1).nonzero().flatten().tolist()
    needed = torch.tensor([len(groups)], device=accelerator.device)
    most = int(cast(Tensor, accelerator.gather(needed)).max())
    exchanged = torch.zeros_like(chosen)
    if most:
        # Sampling is a collective call: processes with fewer groups sample some for nothing.
        drawn = [*groups, *[0] * (most - len(groups))]
        rows = [group * generations + member for group in drawn for member in range(generations)]
        prompts = [contexts[row] or inputs[row]["prompt"] for row in rows]
        with unlogged(trainer):
            rollouts = generate(trainer, [inputs[row] for row in rows], prompts)
        right = accuracy_of(trainer, [inputs[row] for row in rows], rollouts)
        new = {
            row: rollouts.completion_ids[place]
            for place, row in enumerate(rows[: len(groups) * generations])
            if right[place] == 1 and rollouts.completion_ids[place]
        }
        _put(output, new, int(trainer._tokenizer.pad_token_id))
        exchanged[list(new)] = True
    count = cast(Tensor, accelerator.reduce(output["completion_mask"].sum(), reduction="sum"))
    output["num_items_in_batch"] = count
    share = torch.stack([exchanged.float().sum(), torch.tensor(float(len(exchanged)), device=exchanged.device)])
    totals = cast(Tensor, accelerator.reduce(share, reduction="sum"))
    trainer._metrics["train"]["tutored/exchanged"].append((totals[0] / totals[1]).item())
    return exchanged


def _put(output: dict[str, Any], new: dict[int, list[int]], padding: int) -> None:
    """Write responses into rows of a batch, widened where they are longer; their advantage becomes 0."""
    width = output["completion_ids"].size(1)
    more = max(0, max(map(len, new.values()), default=0) - width)
    for name, fill in {**_PER_RESPONSE_TOKEN, "completion_ids": padding}.items():
        # Importance ratios of whole sequences have one column.
        if name in output and output[name].size(1) in (width, width + output["prompt_ids"].size(1)):
            output[name] = torch.nn.functional.pad(output[name], (0, more), value=fill)
    for row, ids in new.items():
        output["completion_ids"][row] = padding
        output["completion_ids"][row, : len(ids)] = torch.tensor(ids, device=output["completion_ids"].device)
        output["completion_mask"][row] = 0
        output["completion_mask"][row, : len(ids)] = 1
        output["advantages"][row] = 0.0
