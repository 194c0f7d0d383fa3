"""The worlds of the study as files: a model that reads, and for each world its problems, hints and start model."""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ptdpo.data.files import write_hints, write_problems, write_solutions
from ptdpo.data.mosaic import NAMES
from ptdpo.data.two_step import (
    GRADES,
    Puzzle,
    draw_mosaics,
    graded_hint,
    hidden_rules,
    make_puzzles,
    with_grades,
    with_views,
)
from ptdpo.folders import claim, new_folder, sole_writer
from ptdpo.models import TinyVLMSettings, make_tiny_vlm
from ptdpo.records import Hint
from ptdpo.study.lessons import Habits, Lessons, SftRow, habit_rows, lesson_rows, practice_rows
from ptdpo.train.trl.sft import fine_tune_on_cpu

SETTINGS_FILE = "settings.json"
START = "start"
EXPERT = "expert"
# Written last: what else a world's data hold is there if it is.
_VIEWS = "data/train-views.jsonl"
SHUFFLED = "shuffled"
# Rows on which the tokenizer is trained: of the first lesson, and of the last, which has every kind of context.
_FIRST_TEXTS, _LAST_TEXTS = 100, 2_000


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """Everything that decides a world but its number.

    Attributes:
        seed: of the model that every world's start model comes from.
        lessons: that this model is taught.
        habits: what a world's start model is taught besides.
        train_problems: for training.
        validation_problems: on which settings are chosen.
        test_problems: on which methods are compared, once.
    """

    seed: int = 0
    lessons: Lessons = field(default_factory=Lessons)
    habits: Habits = field(default_factory=Habits)
    train_problems: int = 160
    validation_problems: int = 120
    test_problems: int = 240


def make_reader(folder: Path, settings: WorldSettings) -> Path:
    """Make the model that can read every context, unless it is there, and return its folder.

    Raises:
        ValueError: if the folder holds one with other settings, or another process writes there.
    """
    taught, finished, lessons = folder / "taught", folder / "reader", settings.lessons
    with sole_writer(folder, "study"):
        claim(folder / SETTINGS_FILE, {"seed": settings.seed, **asdict(lessons)}, "choose another folder")
        if not taught.exists():
            rows = lesson_rows(folder / "images", settings.seed, lessons)
            texts = [f"{text} {response}" for _, text, response in rows[:_FIRST_TEXTS] + rows[-_LAST_TEXTS:]]
            make_tiny_vlm(folder / "fresh", texts, TinyVLMSettings(seed=settings.seed))
            _fine_tune(folder / "fresh", rows, taught, lessons.learning_rate, lessons.batch_size, settings.seed)
        if not finished.exists():
            rows = practice_rows(folder / "images", settings.seed, lessons)
            _fine_tune(taught, rows, finished, lessons.learning_rate, lessons.batch_size, settings.seed)
    return finished


def world_made(folder: Path) -> bool:
    """Whether a folder holds a whole world."""
    return all((folder / part).exists() for part in (_VIEWS, START, EXPERT))


def make_world(folder: Path, world: int, reader: Path, settings: WorldSettings) -> Path:
    """Make what a folder lacks of a world, and return the folder of its start model.

    ``data`` holds problems by split, hints of each grade (``hints-whole.jsonl`` and so on) and shuffled ones,
    solutions, and the training problems with graded hints and with views for a teacher; ``start`` the model that
    training starts from; ``expert`` that model after as many rows again, all by the true rules, which OPD distils.

    Raises:
        ValueError: if the folder holds another world, or another process writes there.
    """
    start, expert, habits = folder / START, folder / EXPERT, settings.habits
    with sole_writer(folder, "study"):
        claim(folder / SETTINGS_FILE, {"world": world, **asdict(settings)}, "choose another folder")
        if not (folder / _VIEWS).exists():
            _write_data(folder / "data", world, settings)
        if not start.exists():
            _fine_tune_habits(reader, start, world, settings, habits)
        if not expert.exists():
            true = replace(habits, hinted=0.0, true_share=dict.fromkeys(NAMES, 1.0))
            _fine_tune_habits(start, expert, world, settings, true)
    return start


def _fine_tune_habits(model: Path, folder: Path, world: int, settings: WorldSettings, habits: Habits) -> None:
    rules, lessons = hidden_rules(world, NAMES), settings.lessons
    rows = habit_rows(folder.parent / "images", world, rules, habits, lessons.shares)
    _fine_tune(model, rows, folder, habits.learning_rate, lessons.batch_size, world)


def world_puzzles(folder: Path, world: int, split: str, count: int) -> list[Puzzle]:
    """Return puzzles of a split by the world's own rules, names in turn; their pictures are written to ``folder``."""
    rules = hidden_rules(world, NAMES)
    names = [NAMES[n % len(NAMES)] for n in range(count)]
    mosaics = draw_mosaics(folder, split, count, 2_000_000 + world)
    return make_puzzles(mosaics, [(name, rules[name]) for name in names], f"{split}-{world}")


def _write_data(folder: Path, world: int, settings: WorldSettings) -> None:
    sizes = {
        "train": settings.train_problems,
        "validation": settings.validation_problems,
        "test": settings.test_problems,
    }
    splits = {split: world_puzzles(folder / "images", world, split, size) for split, size in sizes.items()}
    for split, puzzles in splits.items():
        write_problems(folder / f"{split}.jsonl", [puzzle.problem for puzzle in puzzles])
    train = splits["train"]
    for grade in GRADES[1:]:
        graded = [(puzzle.problem.id, graded_hint(puzzle.rule, grade)) for puzzle in train]
        hints = {key: hint for key, hint in graded if hint is not None}
        write_hints(folder / f"hints-{grade}.jsonl", hints, model="rule")
    write_hints(folder / f"hints-{SHUFFLED}.jsonl", shuffled_hints(train, random.Random(f"shuffled {world}")), "rule")
    write_solutions(folder / "solutions.jsonl", [puzzle.solution for puzzle in train])
    write_problems(folder / "train-graded.jsonl", [with_grades(puzzle) for puzzle in train])
    write_problems(folder.parent / _VIEWS, [with_views(puzzle, folder / "images") for puzzle in train])


def shuffled_hints(puzzles: Sequence[Puzzle], rng: random.Random) -> dict[str, Hint]:
    """Return for each problem the whole hint of a problem about another name: good hints, each in a wrong place."""
    hints = {}
    for puzzle in puzzles:
        other = rng.choice([other for other in puzzles if other.name != puzzle.name])
        hint = graded_hint(other.rule, "whole")
        assert hint is not None
        hints[puzzle.problem.id] = hint
    return hints


def _fine_tune(
    model: Path, rows: Sequence[SftRow], folder: Path, learning_rate: float, batch_size: int, seed: int
) -> None:
    """Fine-tune in the order of the rows; the folder appears only when it is complete."""
    with new_folder(folder) as partial:
        fine_tune_on_cpu(
            str(model), rows, partial, batch_size=batch_size, learning_rate=learning_rate, seed=seed, in_order=True
        )
