"""DAPO's dynamic sampling: groups that teach nothing are exchanged for groups of other prompts."""

import random
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from ptdpo.data.contexts import context_named
from ptdpo.train.rollouts import Rollouts, accuracy_of, generate, unlogged
from ptdpo.tutor.context import privileged_prompt

Rows = list[dict[str, Any]]


def resample(trainer: Any, inputs: Rows) -> tuple[Rows, Rollouts]:
    """Sample responses, and exchange uninformative groups until none is left or the rounds are used up.

    A group is informative if some but not all of its rollouts are right. With tutoring, a group that fails as a whole
    is kept too when the teacher has something to show for it: that is the signal tutoring lives on. Logged response
    lengths are those of the first draw, before any choice.

    Returns:
        The rows to train on and their rollouts, in the same order and number as ``inputs``.
    """
    rollouts = generate(trainer, inputs, [row["prompt"] for row in inputs])
    wanted = _informative(trainer, inputs, rollouts)
    exchanged = 0
    for attempt in range(trainer.args.resampling_rounds):
        missing = [group for group, keep in enumerate(wanted) if not keep]
        # Every process draws as many groups as the one that needs most: sampling is a collective call.
        most = int(_over_processes(trainer, len(missing)).max())
        if most == 0:
            break
        fresh = _draw(trainer, most, attempt)
        with unlogged(trainer):
            others = generate(trainer, fresh, [row["prompt"] for row in fresh])
        good = [group for group, keep in enumerate(_informative(trainer, fresh, others)) if keep]
        pairs = list(zip(missing, good, strict=False))
        inputs, rollouts = _exchange(trainer.num_generations, inputs, rollouts, fresh, others, pairs)
        for group, _ in pairs:
            wanted[group] = True
        exchanged += len(pairs)
    _log(trainer, exchanged, wanted.count(False), len(wanted))
    return inputs, rollouts


def _informative(trainer: Any, inputs: Rows, rollouts: Rollouts) -> list[bool]:
    """Return for each group of this process whether something is learnt from it."""
    args, generations = trainer.args, trainer.num_generations
    accuracy = accuracy_of(trainer, inputs, rollouts)
    found = []
    for first in range(0, len(inputs), generations):
        right = sum(accuracy[first : first + generations])
        row = inputs[first]
        tutored = right == 0 and args.tutors and not context_named(args.tutoring_context).needs_group
        found.append(0 < right < generations or bool(tutored and privileged_prompt(row, args.tutoring_context)))
    return found


def _draw(trainer: Any, groups: int, attempt: int) -> Rows:
    """Return rows of other prompts, G times each; the same ones when a step is repeated after a resume."""
    # Where a step accumulates over several generations, each draws other prompts.
    micro_step = trainer._step % trainer.args.gradient_accumulation_steps
    step = f"{trainer.state.global_step} {micro_step}"
    place = f"{trainer.args.seed} {step} {trainer.accelerator.process_index} {attempt}"
    data = trainer.train_dataset
    chosen = random.Random(place).sample(range(len(data)), min(groups, len(data)))
    chosen += chosen[:1] * (groups - len(chosen))
    return [dict(data[index]) for index in chosen for _ in range(trainer.num_generations)]


def _exchange(
    generations: int,
    inputs: Rows,
    rollouts: Rollouts,
    fresh: Rows,
    others: Rollouts,
    pairs: Sequence[tuple[int, int]],
) -> tuple[Rows, Rollouts]:
    source = {
        old * generations + member: new * generations + member for old, new in pairs for member in range(generations)
    }
    rows = [fresh[source[row]] if row in source else value for row, value in enumerate(inputs)]
    return rows, rollouts.with_rows({row: (others, other) for row, other in source.items()})


def _over_processes(trainer: Any, *values: float) -> Tensor:
    local = torch.tensor([values], dtype=torch.float32, device=trainer.accelerator.device)
    return cast(Tensor, trainer.accelerator.gather(local))


def _log(trainer: Any, exchanged: int, left: int, groups: int) -> None:
    totals = _over_processes(trainer, exchanged, left, groups).sum(dim=0)
    trainer._metrics["train"]["groups/resampled"].append((totals[0] / totals[2]).item())
    trainer._metrics["train"]["groups/uninformative_left"].append((totals[1] / totals[2]).item())
