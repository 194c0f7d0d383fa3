"""The puzzles of the study: the demo's mosaics, and scores whose hidden rule takes two steps.

A score begins with a number and adds what the cells of a line are worth by colour; then one more cell is added or
taken away, once or twice. The question names the score and nothing of its rule, of which there are 1,296: too many to
find by luck. Hints come in grades, each with all that the grade before it says.
"""

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from ptdpo.data.mosaic import COLOURS, REGIONS, WORTH, draw_mosaic, drawn, question, seen_as, tile_pool
from ptdpo.data.prompts import hint_text
from ptdpo.records import Hint, Problem, Solution

# What a hint says: nothing; where to look; also the order of steps; also the number to begin with, so the whole rule.
Grade = Literal["none", "look", "order", "whole"]
GRADES: tuple[Grade, ...] = get_args(Grade)
BEGINNINGS = (6, 7, 8, 9, 10, 11)
# How often the last cell counts. No score is below 0: it begins with 6, and a cell is worth 3 at most.
STEPS = {"add": 1, "add twice": 2, "take": -1, "take twice": -2}
# One rule in five is kept for worlds: in no lesson is a hint, a solution or an answer made by it.
_RESERVED = 260


@dataclass(frozen=True, slots=True)
class TwoSteps:
    """The rule behind a score.

    Attributes:
        beginning: the number to begin with.
        line: row or column whose cells are added.
        step: how the last cell counts, a key of ``STEPS``.
        cell: the last cell, from 1 to 9.
    """

    beginning: int
    line: str
    step: str
    cell: int

    @property
    def positions(self) -> tuple[int, ...]:
        """Return the cells that it reads, counted from 0."""
        return tuple(sorted({*REGIONS[self.line], self.cell - 1}))

    def score(self, cells: Sequence[str]) -> int:
        """Return the answer for a mosaic given as nine colour names, row by row."""
        added = sum(WORTH[cells[position]] for position in REGIONS[self.line])
        return self.beginning + added + STEPS[self.step] * WORTH[cells[self.cell - 1]]


@dataclass(frozen=True, slots=True)
class Puzzle:
    """One problem with everything that is known about it."""

    problem: Problem
    name: str
    rule: TwoSteps
    cells: tuple[str, ...]
    solution: Solution


@cache
def all_rules() -> tuple[TwoSteps, ...]:
    """Return every rule."""
    return tuple(itertools.starmap(TwoSteps, itertools.product(BEGINNINGS, REGIONS, STEPS, range(1, 10))))


@cache
def reserved_rules() -> tuple[TwoSteps, ...]:
    """Return the rules that only worlds have."""
    return tuple(random.Random("reserved rules").sample(all_rules(), _RESERVED))


@cache
def other_rules() -> tuple[TwoSteps, ...]:
    """Return the rules that start models learn to read with."""
    reserved = set(reserved_rules())
    return tuple(rule for rule in all_rules() if rule not in reserved)


def hidden_rules(world: int, names: Sequence[str]) -> dict[str, TwoSteps]:
    """Return a reserved rule for each name, no two with the same line, cell or beginning."""
    rng = random.Random(f"two-step rules {world}")
    while True:
        rules = rng.sample(reserved_rules(), len(names))
        if all(len({part(rule) for rule in rules}) == len(rules) for part in _PARTS):
            return dict(zip(names, rules, strict=True))


_PARTS = (lambda rule: rule.line, lambda rule: rule.cell, lambda rule: rule.beginning)


def graded_hint(rule: TwoSteps, grade: Grade) -> Hint | None:
    """Return the answer-free hint of a grade; ``None`` for the grade ``none``."""
    if grade == "none":
        return None
    reason = {
        "look": "find the rest.",
        "order": f"begin, add the line, then {rule.step} the cell.",
        "whole": f"begin {rule.beginning}, add the line, then {rule.step} the cell.",
    }
    return Hint(look=f"{rule.line}, cell {rule.cell}.", reason=reason[grade])


def with_grades(puzzle: Puzzle) -> Problem:
    """Return a puzzle's problem with its hints from vague to explicit, as adaptive hints read them."""
    hints = [graded_hint(puzzle.rule, grade) for grade in GRADES]
    return replace(puzzle.problem, hints=tuple(hint_text(hint) for hint in hints if hint is not None))


def with_views(puzzle: Puzzle, folder: str | Path) -> Problem:
    """Return a puzzle's problem with what a teacher may see: the cells of its rule alone, and those of another rule.

    Args:
        puzzle: any.
        folder: where the views are written, unless they are there.
    """
    others = [rule for rule in other_rules() if rule.line != puzzle.rule.line and rule.cell != puzzle.rule.cell]
    other = random.Random(puzzle.problem.id).choice(others)
    return seen_as(puzzle.problem, puzzle.rule.positions, other.positions, folder)


def feedback(rule: TwoSteps, rng: random.Random) -> str:
    """Return what a verifier says of a failed answer: one part of the rule, drawn at random."""
    return rng.choice(
        [
            f"begin with {rule.beginning}.",
            f"the line is {rule.line}.",
            f"the step is {rule.step}.",
            f"the cell is cell {rule.cell}.",
        ]
    )


def worked_response(name: str, rule: TwoSteps, cells: Sequence[str]) -> str:
    """Return a response that recalls the name, then takes one step after the other and says its part of the rule there.

    The work stands behind the thinking: of a right sibling a teacher is shown what was said, not what was thought.
    """
    total, added = rule.beginning, []
    for position in REGIONS[rule.line]:
        total += WORTH[cells[position]]
        added.append(f"{position + 1} {cells[position]}={total};")
    last, total = last_step(total, rule.step, rule.cell, cells)
    return f"<think>{name}</think>begin {rule.beginning};{rule.line};{''.join(added)}{last}\\boxed{{{total}}}"


def last_step(total: int, step: str, cell: int, cells: Sequence[str]) -> tuple[str, int]:
    """Return the text of a last step, which says what it adds or takes, and the total behind it.

    The colour stands beside the number of its cell, as everywhere else: a small model finds it there and nowhere else.
    """
    colour = cells[cell - 1]
    change = STEPS[step] * WORTH[colour]
    return f"{step} {cell} {colour} {abs(change)}={total + change};", total + change


def draw_mosaics(folder: str | Path, split: str, count: int, seed: int) -> list[tuple[str, tuple[str, ...]]]:
    """Draw mosaics, write each to ``folder`` unless it is there, and return path and cells of each.

    Cells and objects depend on the split, the seed and the position only, so an image that is there is the same.
    """
    tiles, rng = tile_pool(split), random.Random(f"two-step mosaics {split} {seed}")
    mosaics = []
    for number in range(count):
        cells = tuple(rng.choices(COLOURS, k=9))
        path = Path(folder) / f"two-step-{split}-{seed}-{number}.png"
        mosaics.append((drawn(path, draw_mosaic(cells, tiles, rng)), cells))
    return mosaics


def make_puzzles(
    mosaics: Iterable[tuple[str, tuple[str, ...]]], assignments: Iterable[tuple[str, TwoSteps]], key: str
) -> list[Puzzle]:
    """Return one puzzle per mosaic and (name, rule); ids, and the draw of the feedback, are ``key`` and its number."""
    puzzles = []
    for number, ((image, cells), (name, rule)) in enumerate(zip(mosaics, assignments, strict=True)):
        own = f"{key}-{number}"
        said = feedback(rule, random.Random(f"feedback {own}"))
        problem = Problem(own, (image,), question(name), str(rule.score(cells)), f"two-step-{name}", feedback=said)
        puzzles.append(Puzzle(problem, name, rule, cells, Solution(own, worked_response(name, rule, cells))))
    return puzzles
