"""DAPO's dynamic sampling: groups that teach nothing are exchanged for groups of other prompts."""

import random
from collections.abc import Sequence

import torch

from ptdpo.data.contexts import Row
from ptdpo.data.readable import readable_row
from ptdpo.train.engine import Engine, Rollouts
from ptdpo.train.method_settings import ResamplingSettings
from ptdpo.tutor.context import privileged_prompt


def resample(engine: Engine, settings: ResamplingSettings, rows: Sequence[Row]) -> tuple[list[Row], Rollouts]:
    """Sample responses, and exchange uninformative groups until none is left or the rounds are used up.

    A group is informative if some but not all of its rollouts are right. With tutoring, a group that fails as a whole
    is kept too when the teacher has something to show for it: that is the signal tutoring lives on. Logged response
    lengths are those of the first draw, before any choice.

    Args:
        engine: samples and grades.
        settings: how often, and what is kept.
        rows: this process's rows of the data set, a group's next to each other.

    Returns:
        The rows to train on and their rollouts, in the same order and number as ``rows``.
    """
    chosen = list(rows)
    rollouts = engine.generate(chosen, [row["prompt"] for row in chosen])
    wanted = _informative(engine, settings, chosen, rollouts)
    exchanged = 0
    for attempt in range(settings.rounds):
        missing = [group for group, keep in enumerate(wanted) if not keep]
        # Every process draws as many groups as the one that needs most: sampling is a collective call.
        most = engine.processes.most(len(missing))
        if most == 0:
            break
        fresh = _draw(engine, settings.seed, most, attempt)
        others = engine.generate(fresh, [row["prompt"] for row in fresh], logged=False)
        good = [group for group, keep in enumerate(_informative(engine, settings, fresh, others)) if keep]
        pairs = list(zip(missing, good, strict=False))
        source = _rows_of(pairs, engine.generations)
        chosen = [fresh[source[row]] if row in source else value for row, value in enumerate(chosen)]
        rollouts = rollouts.with_rows({row: (others, other) for row, other in source.items()})
        for group, _ in pairs:
            wanted[group] = True
        exchanged += len(pairs)
    _log(engine, exchanged, wanted.count(False), len(wanted))
    return chosen, rollouts


def _informative(engine: Engine, settings: ResamplingSettings, rows: Sequence[Row], rollouts: Rollouts) -> list[bool]:
    """Return for each group of this process whether something is learnt from it."""
    generations, context = engine.generations, settings.kept_context
    accuracy = engine.accuracy(rows, rollouts)
    found = []
    for first in range(0, len(rows), generations):
        right = sum(accuracy[first : first + generations])
        kept = right == 0 and context is not None and bool(privileged_prompt(rows[first], context))
        # A teacher that lacks the images that it is to see reads nothing.
        kept = kept and all(rows[first].get(name) for name in settings.kept_columns)
        found.append(0 < right < generations or kept)
    return found


def _draw(engine: Engine, seed: int, groups: int, attempt: int) -> list[Row]:
    """Return rows of other prompts, G times each; the same ones when a step is repeated after a resume."""
    # Where a step accumulates over several generations, each draws other prompts.
    place = f"{seed} {engine.step} {engine.micro_step} {engine.processes.index} {attempt}"
    data = engine.rows
    chosen = random.Random(place).sample(range(len(data)), min(groups, len(data)))
    chosen += chosen[:1] * (groups - len(chosen))
    rows = [readable_row(data[index]) for index in chosen]
    return [dict(row) for row in rows for _ in range(engine.generations)]


def _rows_of(pairs: Sequence[tuple[int, int]], generations: int) -> dict[int, int]:
    """Return the row that takes the place of each row of the exchanged groups."""
    return {
        old * generations + member: new * generations + member for old, new in pairs for member in range(generations)
    }


def _log(engine: Engine, exchanged: int, left: int, groups: int) -> None:
    counts = torch.tensor([exchanged, left, groups], dtype=torch.float32, device=engine.processes.device)
    totals = engine.processes.sum(counts)
    engine.log("groups/resampled", (totals[0] / totals[2]).item())
    engine.log("groups/uninformative_left", (totals[1] / totals[2]).item())
