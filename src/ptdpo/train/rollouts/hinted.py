"""Scaf-GRPO: in groups that fail as a whole, right responses that the policy gives with a hint replace wrong ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ptdpo.data.contexts import Row
from ptdpo.data.prompts import Prompt
from ptdpo.train.engine import Engine, Rollouts
from ptdpo.train.method_settings import HintedSettings
from ptdpo.tutor.context import hint_levels


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is trained on.

    Attributes:
        rows: of this process, a group's rows next to each other.
        rollouts: of them; ``None``: the engine has still to sample.
        foreign: rows whose response was drawn under another prompt than the one under which it is scored.
        hinted: rows whose response was drawn with a hint: which of its levels, the vaguest being 1.
    """

    rows: Sequence[Row]
    rollouts: Rollouts | None = None
    foreign: frozenset[int] = frozenset()
    hinted: Mapping[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Found:
    """Right responses that were drawn with hints: by row, whose they are, under which prompt and level of the hint."""

    places: dict[int, tuple[Rollouts, int]] = field(default_factory=dict)
    prompts: dict[int, Prompt] = field(default_factory=dict)
    level_of: dict[int, int] = field(default_factory=dict)
    levels: list[int] = field(default_factory=list)


def draw_hinted(engine: Engine, settings: HintedSettings, chosen: Chosen) -> Chosen:
    """Let groups that fail as a whole answer with a hint, the vaguest first, and keep right responses of one level.

    They are graded, and count in their group's advantages, like the policy's own. A group is answered at most once per
    level, by as many rollouts as it has; one that no hint helps stays as it is.

    Args:
        engine: samples and grades; every process holds whole groups.
        settings: how many are kept, and under which prompt they are scored.
        chosen: what would be trained on.
    """
    if engine.step < settings.after:
        return chosen
    rows, generations, processes = chosen.rows, engine.generations, engine.processes
    own = chosen.rollouts or engine.generate(rows, [row["prompt"] for row in rows])
    right = engine.accuracy(rows, own)
    failed = [first for first in range(0, len(rows), generations) if sum(right[first : first + generations]) == 0]
    levels = {first: hint_levels(rows[first]) for first in failed}
    found = _Found()
    for level in range(processes.most(max(map(len, levels.values()), default=0))):
        left = {first: prompts[level] for first, prompts in levels.items() if level < len(prompts)}
        left = {first: prompt for first, prompt in left.items() if first not in found.places}
        # Sampling is a collective call: processes with fewer groups sample some for nothing.
        most = processes.most(len(left))
        if most:
            _draw(engine, settings, rows, left, most, found, level)
    _log(engine, len(found.levels), sum(found.levels), len(rows) // generations)
    keeps_prompts = settings.scored == "question"
    rollouts = own.with_rows(found.places, keep_prompts=keeps_prompts)
    if keeps_prompts:
        return Chosen(rows, rollouts, chosen.foreign | found.places.keys(), found.level_of)
    rows = [{**row, "prompt": found.prompts[n]} if n in found.prompts else row for n, row in enumerate(rows)]
    return Chosen(rows, rollouts, chosen.foreign, found.level_of)


def _draw(
    engine: Engine,
    settings: HintedSettings,
    rows: Sequence[Row],
    left: Mapping[int, Prompt],
    most: int,
    found: _Found,
    level: int,
) -> None:
    """Answer groups with one level of their hints, and add what is right: in the places of their first rollouts."""
    generations = engine.generations
    groups = [*left.items(), *[(0, rows[0]["prompt"])] * (most - len(left))]
    asked = [rows[first + member] for first, _ in groups for member in range(generations)]
    prompts = [prompt for _, prompt in groups for _ in range(generations)]
    drawn = engine.generate(asked, prompts, logged=False)
    right = engine.accuracy(asked, drawn)
    for number, (first, prompt) in enumerate(left.items()):
        places = range(number * generations, (number + 1) * generations)
        kept = [place for place in places if right[place] == 1 and drawn.response_ids[place]][: settings.count]
        for row, place in enumerate(kept, start=first):
            found.places[row], found.prompts[row], found.level_of[row] = (drawn, place), prompt, level + 1
        if kept:
            found.levels.append(level + 1)


def _log(engine: Engine, helped: int, levels: int, groups: int) -> None:
    counts = torch.tensor([helped, levels, groups], dtype=torch.float32, device=engine.processes.device)
    totals = engine.processes.sum(counts)
    engine.log("hinted/groups", (totals[0] / totals[2]).item())
    engine.log("hinted/level", (totals[1] / totals[0].clamp(min=1)).item())
