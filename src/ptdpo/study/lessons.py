"""What the start models of the study are taught: to see, to follow rules, to read every kind of context."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ptdpo.data.contexts import CONTEXTS, Material, context_row
from ptdpo.data.mosaic import NAMES, WORTH
from ptdpo.data.prompts import question_text
from ptdpo.data.two_step import (
    BEGINNINGS,
    GRADES,
    STEPS,
    Puzzle,
    TwoSteps,
    draw_mosaics,
    graded_hint,
    last_step,
    make_puzzles,
    other_rules,
)

SftRow = tuple[Sequence[str], str, str]

INSTRUCTION = ""
QUESTION = "question"
# What a teacher may be shown in the study: hints by grade, and every other context that is told in words.
SHOWN = (*GRADES[1:], "answer", "solution", "sibling", "feedback")


@dataclass(frozen=True, slots=True)
class Lessons:
    """Supervised fine-tuning that every world's start model comes from, four lessons that build on each other.

    Attributes:
        mosaics: pictures that the rows of all lessons share.
        naming_rows: name the colours of all cells.
        step_rows: add and take away all cells, as the last step of a score does.
        rule_rows: scores by random rules, each beside one of ``rule_shares``.
        rule_shares: share of those rows that show each context; what is left of 1 shows none.
        reading_rows: scores by random rules, each beside one of ``shares``.
        shares: likewise.
        batch_size: rows per step.
        learning_rate: peak of one cosine schedule over all lessons.
        practice_rows: further scores, with a schedule of their own, in which names begin to matter.
        practice_alone: share of those without a context; they go by one rule for each name, the same ones throughout.
    """

    mosaics: int = 6_000
    naming_rows: int = 4_800
    step_rows: int = 6_400
    rule_rows: int = 8_000
    rule_shares: Mapping[str, float] = field(default_factory=lambda: {"whole": 0.45, "solution": 0.25, "sibling": 0.2})
    reading_rows: int = 16_000
    shares: Mapping[str, float] = field(
        default_factory=lambda: {
            "look": 0.12,
            "order": 0.12,
            "whole": 0.16,
            "answer": 0.10,
            "solution": 0.14,
            "sibling": 0.14,
            "feedback": 0.10,
        }
    )
    batch_size: int = 32
    learning_rate: float = 2e-3
    practice_rows: int = 12_800
    practice_alone: float = 0.4


def lesson_rows(folder: Path, seed: int, lessons: Lessons) -> list[SftRow]:
    """Return the rows of the lessons in their order, by rules that no world has."""
    rng = random.Random(f"lessons {seed}")
    mosaics = draw_mosaics(folder, "train", lessons.mosaics, seed)

    def scored(rows: int, key: str) -> list[Puzzle]:
        assignments = [(rng.choice(NAMES), rng.choice(other_rules())) for _ in range(rows)]
        return make_puzzles(rng.choices(mosaics, k=rows), assignments, key)

    return [
        *(_naming_row(*rng.choice(mosaics), rng) for _ in range(lessons.naming_rows)),
        *(_step_row(*rng.choice(mosaics), rng) for _ in range(lessons.step_rows)),
        *reading_rows(scored(lessons.rule_rows, "rules"), lessons.rule_shares, rng),
        *reading_rows(scored(lessons.reading_rows, "reading"), lessons.shares, rng),
    ]


def practice_rows(folder: Path, seed: int, lessons: Lessons) -> list[SftRow]:
    """Return scores in which the question alone is answered by the rule that goes with its name, none of a world's.

    Without them nothing depends on the name, and a small model does not even repeat it: it could then not learn which
    rule of a world goes with which name.
    """
    rng = random.Random(f"practice {seed}")
    mosaics = draw_mosaics(folder, "train", lessons.mosaics, seed)
    known = dict(zip(NAMES, rng.sample(other_rules(), len(NAMES)), strict=True))
    assignments, contexts = [], []
    for _ in range(lessons.practice_rows):
        name, alone = rng.choice(NAMES), rng.random() < lessons.practice_alone
        assignments.append((name, known[name] if alone else rng.choice(other_rules())))
        contexts.append(QUESTION if alone else _drawn(lessons.shares, rng))
    puzzles = make_puzzles(rng.choices(mosaics, k=len(assignments)), assignments, "practice")
    return _shown(puzzles, contexts)


def reading_rows(puzzles: Sequence[Puzzle], shares: Mapping[str, float], rng: random.Random) -> Iterator[SftRow]:
    """Yield for each puzzle the question beside a context drawn by ``shares``, and its worked response."""
    contexts, weights = [*shares, QUESTION], [*shares.values(), max(1 - sum(shares.values()), 0.0)]
    for puzzle in puzzles:
        (context,) = rng.choices(contexts, weights)
        yield puzzle.problem.images, shown_text(puzzle, context), puzzle.solution.response


def shown_text(puzzle: Puzzle, shown: str) -> str:
    """Return what a teacher reads of a puzzle: the text that training would put there for it.

    Args:
        puzzle: the puzzle.
        shown: ``question`` for the question alone, or one of ``SHOWN``; a sibling is the puzzle's worked response.
    """
    question = question_text(puzzle.problem, INSTRUCTION)
    if shown == QUESTION:
        return question
    graded = shown in GRADES
    hint = graded_hint(puzzle.rule, shown) if graded else None
    row = context_row(Material(puzzle.problem, hint, puzzle.solution.response, INSTRUCTION))
    text = CONTEXTS["hint" if graded else shown].text(question, row, puzzle.solution.response)
    assert text is not None
    return text


@dataclass(frozen=True, slots=True)
class Habits:
    """A short fine-tuning of each world's own start model: it takes up its names' true rules in part.

    Attributes:
        rows: scores in all.
        hinted: share of those with a context, drawn by the shares of the lessons; they have rules that no world has.
        true_share: by name, the share of the others that use the true rule; the rest use rules that no world has.
        learning_rate: peak of a cosine schedule.
    """

    rows: int = 3_200
    hinted: float = 0.35
    true_share: Mapping[str, float] = field(default_factory=lambda: dict(zip(NAMES, (0.8, 0.5, 0.2, 0.0), strict=True)))
    learning_rate: float = 1.5e-3


def habit_rows(
    folder: Path, world: int, rules: Mapping[str, TwoSteps], habits: Habits, shares: Mapping[str, float]
) -> list[SftRow]:
    """Return rows after which a model answers some names by their true rule now and then, and still reads contexts.

    Args:
        folder: of the pictures.
        world: decides pictures and draws.
        rules: the world's rule of each name.
        habits: how many rows of which kind.
        shares: of each context among rows that have one.
    """
    rng = random.Random(f"habits {world}")
    assignments, contexts = [], []
    for _ in range(habits.rows):
        name = rng.choice(NAMES)
        with_context = rng.random() < habits.hinted
        true = not with_context and rng.random() < habits.true_share[name]
        assignments.append((name, rules[name] if true else rng.choice(other_rules())))
        contexts.append(_drawn(shares, rng) if with_context else QUESTION)
    mosaics = draw_mosaics(folder, "train", habits.rows, 1_000_000 + world)
    puzzles = make_puzzles(mosaics, assignments, f"habits-{world}")
    return _shown(puzzles, contexts)


def _drawn(shares: Mapping[str, float], rng: random.Random) -> str:
    return rng.choices([*shares], [*shares.values()])[0]


def _shown(puzzles: Sequence[Puzzle], contexts: Sequence[str]) -> list[SftRow]:
    return [
        (puzzle.problem.images, shown_text(puzzle, context), puzzle.solution.response)
        for puzzle, context in zip(puzzles, contexts, strict=True)
    ]


def _naming_row(image: str, cells: Sequence[str], rng: random.Random) -> SftRow:
    """Ask for all cells; the response names them in random order."""
    positions = rng.sample(range(len(cells)), len(cells))
    listed = "".join(f"{position + 1} {cells[position]};" for position in positions)
    return (image,), "what is in the cells?", f"<think></think>{listed}\\boxed{{{len(positions)}}}"


def _step_row(image: str, cells: Sequence[str], rng: random.Random) -> SftRow:
    """Ask for steps over all cells; the response takes them in random order, as a score takes its last step."""
    total, steps = rng.choice(BEGINNINGS), []
    asked = f"begin {total}, take steps."
    for position in rng.sample(range(len(cells)), len(cells)):
        possible = [step for step, times in STEPS.items() if total + times * WORTH[cells[position]] >= 0]
        said, total = last_step(total, rng.choice(possible), position + 1, cells)
        steps.append(said)
    return (image,), asked, f"<think></think>{''.join(steps)}\\boxed{{{total}}}"
