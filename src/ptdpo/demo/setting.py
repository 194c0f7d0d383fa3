"""The demo's task, sizes and chosen settings.

Four scores, each with a hidden rule (``ptdpo.data.mosaic``). The warm start teaches the model to see, to follow
hints with random rules, and to answer in the right form; without a hint it knows the true rule of some names in
part and of others hardly at all. RL then has to find the rules.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ptdpo.data.files import write_hints, write_problems
from ptdpo.data.mosaic import (
    NAMES,
    Rule,
    Scene,
    hidden_rules,
    make_scenes,
    random_rule,
    worked_response,
    written_cells,
)
from ptdpo.data.prompts import hint_text, question_text, with_hint
from ptdpo.records import Problem

SftRow = tuple[Sequence[str], str, str]

INSTRUCTION = ""
EVERYWHERE = "all cells"


@dataclass(frozen=True, slots=True)
class WarmStart:
    """Supervised fine-tuning before RL: skills in three lessons that build on each other, practice, then habits.

    The lessons are chaotic: with the same rows one start model follows hints in 95 % of its answers and another in
    28 %, whose teacher then has nothing to teach. So practice goes on until hints are followed, measured.

    Attributes:
        naming_rows: name the colours of all cells.
        adding_rows: add up all cells under a hinted random rule.
        score_rows: scores, most of them with a hint and a random rule.
        hinted: share of those scores that carry a hint.
        true_rule: share of the unhinted ones that use the true rule.
        batch_size: rows per step.
        learning_rate: peak of the cosine schedule.
        follows_hints: accuracy with the hint from which a model needs no more practice.
        practice_rounds: most rounds of practice.
        practice_rows: scores of one round, at ``learning_rate``.
        practice_hinted: share of those that carry a hint.
        habit_rows: further scores, after which the model uses the true rule of some names now and then.
        habit_hinted: share of those that carry a hint.
        habit_true_rule: share of the unhinted ones that use the true rule, per name.
        habit_learning_rate: peak of their own cosine schedule.
    """

    naming_rows: int = 6_400
    adding_rows: int = 4_000
    score_rows: int = 14_400
    hinted: float = 0.65
    true_rule: float = 0.25
    batch_size: int = 32
    learning_rate: float = 2e-3
    follows_hints: float = 0.9
    practice_rounds: int = 3
    practice_rows: int = 6_400
    practice_hinted: float = 0.8
    habit_rows: int = 3_200
    habit_hinted: float = 0.4
    habit_true_rule: tuple[float, ...] = (0.5, 0.35, 0.2, 0.05)
    habit_learning_rate: float = 1e-3


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train after the warm start.

    Attributes:
        preset: a name of ``ptdpo.config.PRESETS``.
        learning_rate: constant.
        tutoring_weight: lambda, 0 without tutoring.
        rl_weight: 0 switches the policy gradient off.
    """

    preset: str
    learning_rate: float
    tutoring_weight: float = 0.0
    rl_weight: float = 1.0


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """Everything that decides the outcome of a demo but its seed; the arms are those that docs/demo.md chose.

    With ``in_words`` the mosaics are written into the questions, for a model of text.
    """

    warm_start: WarmStart = field(default_factory=WarmStart)
    arms: dict[str, Arm] = field(
        default_factory=lambda: {
            "grpo": Arm("grpo", 5e-5),
            "ptd-grpo": Arm("ptd-grpo", 2e-4, tutoring_weight=2.0),
        }
    )
    in_words: bool = False
    train_problems: int = 480
    validation_problems: int = 240
    test_problems: int = 400
    steps: int = 80
    prompts_per_step: int = 6
    rollouts: int = 8
    max_new_tokens: int = 48
    top_k: int = 20


@dataclass(frozen=True, slots=True)
class DemoData:
    """The scenes of one seed, and where their files lie."""

    folder: Path
    rules: dict[str, Rule]
    train: list[Scene]
    validation: list[Scene]
    test: list[Scene]


def make_data(folder: Path, world: int, seed: int, settings: DemoSettings) -> DemoData:
    """Draw train, validation and test scenes; no object is shared between splits.

    Args:
        folder: where images, problems and hints are written.
        world: decides the hidden rules; the warm start of the same world knows them in part.
        seed: decides the scenes.
        settings: sizes of the splits.
    """
    rules = hidden_rules(world)
    sizes = {
        "train": settings.train_problems,
        "validation": settings.validation_problems,
        "test": settings.test_problems,
    }
    splits = {}
    for split, size in sizes.items():
        names = [NAMES[n % len(NAMES)] for n in range(size)]
        assignments = [(name, rules[name]) for name in names]
        scenes = make_scenes(folder / "images", split, assignments, seed, in_words=settings.in_words)
        write_problems(folder / f"{split}.jsonl", [scene.problem for scene in scenes])
        splits[split] = scenes
    write_hints(folder / "hints.jsonl", {s.problem.id: s.hint for s in splits["train"]}, model="rule")
    return DemoData(folder, rules, **splits)


def skill_rows(folder: Path, world: int, settings: DemoSettings) -> list[SftRow]:
    """Return the rows that teach skills, lesson by lesson."""
    warm, rng = settings.warm_start, random.Random(f"warm start {world}")
    total = warm.naming_rows + warm.adding_rows + warm.score_rows
    shares: dict[str, float] = dict.fromkeys(NAMES, warm.true_rule)
    assignments, hinted = _assign(rng, world, total, warm.hinted, shares)
    scenes = make_scenes(folder / "warm-start", "train", assignments, world + 1_000_000, in_words=settings.in_words)
    first = warm.naming_rows + warm.adding_rows
    return [
        *(_naming_row(scene, rng) for scene in scenes[: warm.naming_rows]),
        *(_adding_row(scene, rng) for scene in scenes[warm.naming_rows : first]),
        *(_score_row(scene, hint) for scene, hint in zip(scenes[first:], hinted[first:], strict=True)),
    ]


def practice_rows(folder: Path, world: int, number: int, settings: DemoSettings) -> list[SftRow]:
    """Return the scores of one round of practice in following hints; every round has scenes of its own."""
    warm, rng = settings.warm_start, random.Random(f"practice {world} {number}")
    shares: dict[str, float] = dict.fromkeys(NAMES, warm.true_rule)
    assignments, hinted = _assign(rng, world, warm.practice_rows, warm.practice_hinted, shares)
    seed = world + (3 + number) * 1_000_000
    scenes = make_scenes(folder / "warm-start", "train", assignments, seed, in_words=settings.in_words)
    return [_score_row(scene, hint) for scene, hint in zip(scenes, hinted, strict=True)]


def hinted_problems(folder: Path, world: int, settings: DemoSettings) -> list[Problem]:
    """Return questions about validation objects that carry their hint, the names and true rules in turn."""
    rules = hidden_rules(world)
    names = [NAMES[n % len(NAMES)] for n in range(settings.validation_problems)]
    assignments = [(name, rules[name]) for name in names]
    seed = world + 2_500_000
    scenes = make_scenes(folder / "warm-start", "validation", assignments, seed, in_words=settings.in_words)
    return [
        replace(s.problem, problem=with_hint(question_text(s.problem, INSTRUCTION), hint_text(s.hint))) for s in scenes
    ]


def habit_rows(folder: Path, world: int, settings: DemoSettings) -> list[SftRow]:
    """Return the rows after which the model answers some names by their true rule now and then."""
    warm = settings.warm_start
    shares: dict[str, float] = dict(zip(NAMES, warm.habit_true_rule, strict=True))
    rng = random.Random(f"habits {world}")
    assignments, hinted = _assign(rng, world, warm.habit_rows, warm.habit_hinted, shares)
    scenes = make_scenes(folder / "warm-start", "train", assignments, world + 2_000_000, in_words=settings.in_words)
    return [_score_row(scene, hint) for scene, hint in zip(scenes, hinted, strict=True)]


def _assign(
    rng: random.Random, world: int, rows: int, hinted_share: float, true_share: Mapping[str, float]
) -> tuple[list[tuple[str, Rule]], list[bool]]:
    """Draw a name, a rule and whether there is a hint, for each row; hinted rows always get a random rule."""
    rules = hidden_rules(world)
    assignments, hinted = [], []
    for _ in range(rows):
        name = rng.choice(NAMES)
        with_a_hint = rng.random() < hinted_share
        true = not with_a_hint and rng.random() < true_share[name]
        assignments.append((name, rules[name] if true else random_rule(rng)))
        hinted.append(with_a_hint)
    return assignments, hinted


def _naming_row(scene: Scene, rng: random.Random) -> SftRow:
    """Ask for all cells; the response names them in random order."""
    positions = rng.sample(range(len(scene.cells)), len(scene.cells))
    listed = ", ".join(f"{position + 1} {scene.cells[position]}" for position in positions)
    asked = "what is in the cells?" if scene.problem.images else f"{written_cells(scene.cells)}. what is in the cells?"
    return scene.problem.images, asked, f"<think>{listed}</think>\n\\boxed{{{len(positions)}}}"


def _adding_row(scene: Scene, rng: random.Random) -> SftRow:
    """Ask for the sum over all cells under a hinted rule; the response takes them in random order."""
    everywhere = replace(scene.hint, look=f"{EVERYWHERE}.")
    positions = rng.sample(range(len(scene.cells)), len(scene.cells))
    text = with_hint(question_text(scene.problem, INSTRUCTION), hint_text(everywhere))
    response = worked_response(scene.name, scene.rule.beginning, scene.cells, EVERYWHERE, positions)
    return scene.problem.images, text, response


def _score_row(scene: Scene, with_a_hint: bool) -> SftRow:
    text = question_text(scene.problem, INSTRUCTION)
    text = with_hint(text, hint_text(scene.hint)) if with_a_hint else text
    return scene.problem.images, text, scene.solution.response
