"""Adaptive hints: which of its hints, from vague to explicit, a problem is taught with."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ptdpo.data.contexts import Row, hint_texts
from ptdpo.data.prompts import Prompt
from ptdpo.train.engine import Engine
from ptdpo.tutor.context import hint_levels, images_of

_LENGTH = 16


@dataclass
class HintChoices:
    """What was decided in a run: the same in all its processes, and kept in its checkpoints.

    Attributes:
        levels: by problem and hints, see ``hints_key``: the vaguest being 1.
    """

    levels: dict[str, int] = field(default_factory=dict)


def hints_key(row: Row) -> str:
    """Return what a choice is remembered by: a problem's id, or without one its images; what it asks; all its hints."""
    own = row.get("id")
    images = [] if own else [hashlib.sha256(image.tobytes()).hexdigest() for image in images_of(row)]
    named = [str(own or images), row["prompt"], hint_texts(row), row.get("prompt_with_hint") or ""]
    text = json.dumps(named, default=lambda _: "image")
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_LENGTH]


def choose_hints(engine: Engine, choices: HintChoices, rows: Sequence[Row], tutored: Collection[int]) -> dict[int, int]:
    """Return for each tutored row the level of its hint: the vaguest with which a rollout of the policy is right.

    A problem that has not been decided answers with its hints, the vaguest first, G times with each, until one answer
    is right. Its last hint is used untried where no other helps, so a problem with L hints costs at most (L - 1) G
    rollouts, once in a run. What is drawn is graded and thrown away.

    Args:
        engine: samples and grades; every process holds whole groups.
        choices: what was decided before; what is decided now is added, on all processes.
        rows: of this process.
        tutored: those that the teacher will read.
    """
    generations, processes = engine.generations, engine.processes
    firsts = {row // generations * generations for row in tutored}
    keys = {first: hints_key(rows[first]) for first in sorted(firsts)}
    # A problem may be there twice: it is decided once.
    asked = {key: first for first, key in keys.items() if key not in choices.levels}
    prompts = {key: hint_levels(rows[first]) for key, first in asked.items()}
    decided = {key: len(own) for key, own in prompts.items()}
    left = dict(prompts)
    for level in range(processes.most(max((len(own) - 1 for own in prompts.values()), default=0))):
        left = {key: own for key, own in left.items() if level < len(own) - 1}
        # Sampling is a collective call: processes with fewer problems sample some for nothing.
        most = processes.most(len(left))
        if not most:
            break
        for key in _right(engine, rows, {asked[key]: own[level] for key, own in left.items()}, most, asked):
            decided[key] = level + 1
            del left[key]
    everywhere = (text.split() for text in processes.gather_texts([f"{key} {own}" for key, own in decided.items()]))
    for key, own in everywhere:
        # Two processes may have asked the same problem.
        choices.levels[key] = min(int(own), choices.levels.get(key, int(own)))
    found = {row: choices.levels[keys[row // generations * generations]] for row in tutored}
    # One hint is no choice: nothing is asked.
    counts = [sum(len(own) > 1 for own in prompts.values()), sum(found.values()), len(found)]
    totals = processes.sum(torch.tensor(counts, dtype=torch.float32, device=processes.device))
    engine.log("hints/asked", totals[0].item())
    engine.log("hints/level", (totals[1] / totals[2].clamp(min=1)).item())
    return found


def _right(
    engine: Engine, rows: Sequence[Row], prompts: Mapping[int, Prompt], most: int, asked: Mapping[str, int]
) -> list[str]:
    """Return the problems of which an answer under its prompt is right, out of those whose first rows are given."""
    generations = engine.generations
    groups = [*prompts.items(), *[(0, rows[0]["prompt"])] * (most - len(prompts))]
    drawn_for = [rows[first + member] for first, _ in groups for member in range(generations)]
    drawn = engine.generate(drawn_for, [own for _, own in groups for _ in range(generations)], logged=False)
    right = engine.accuracy(drawn_for, drawn)
    places = {first: range(n * generations, (n + 1) * generations) for n, first in enumerate(prompts)}
    helped = {first for first, own in places.items() if any(right[place] == 1 for place in own)}
    return [key for key, first in asked.items() if first in helped]
