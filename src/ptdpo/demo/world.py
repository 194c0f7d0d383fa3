"""One world of the demo as files: problems, hints, solutions, a start model and an expert, for recipes to name."""

import random
from dataclasses import replace
from pathlib import Path

from ptdpo.data.files import write_hints, write_problems, write_solutions
from ptdpo.data.mosaic import NAMES, hidden_rules, make_scenes, with_views
from ptdpo.data.prompts import question_text
from ptdpo.demo.run import claim_folder
from ptdpo.demo.setting import INSTRUCTION, DemoSettings, make_data
from ptdpo.demo.training import fine_tune, warm_start
from ptdpo.folders import sole_writer

EXPERT_ROWS = 3_200
MAKES = ("data", "fresh", "skilled", "practised-*", "start", "expert", "warm-start")
# What is left of a hint that does not say where to look.
UNSTRUCTURED = "the picture."


def make_world(folder: Path, world: int, settings: DemoSettings | None = None, expert_rows: int = EXPERT_ROWS) -> Path:
    """Make a world in a folder, unless it is there; returns the folder of its start model.

    ``data`` holds train, validation and test problems, the train problems with views for a teacher, hints, hints
    without a place to look, and solutions; ``start``
    the warm-started model, which knows the rules in part; ``expert`` the same model after further fine-tuning on
    solutions by the true rules, the teacher that OPD distils.

    Raises:
        ValueError: if the folder holds another world, or another process writes there.
    """
    with sole_writer(folder, "data demo-world"):
        return _make(folder, world, settings or DemoSettings(arms={}), expert_rows)


def _make(folder: Path, world: int, settings: DemoSettings, expert_rows: int) -> Path:
    claim_folder(folder, world, settings)
    data = make_data(folder / "data", world, world, settings)
    write_solutions(folder / "data" / "solutions.jsonl", [scene.solution for scene in data.train])
    if not settings.in_words:
        views = [with_views(scene, folder / "data" / "images") for scene in data.train]
        write_problems(folder / "data" / "train_views.jsonl", views)
    plain = {scene.problem.id: replace(scene.hint, look=UNSTRUCTURED) for scene in data.train}
    write_hints(folder / "data" / "plain_hints.jsonl", plain, model="rule")
    start = warm_start(folder, world, settings)
    expert = folder / "expert"
    if not expert.exists():
        rules, rng = hidden_rules(world), random.Random(f"expert {world}")
        names = [rng.choice(NAMES) for _ in range(expert_rows)]
        assignments = [(name, rules[name]) for name in names]
        scenes = make_scenes(folder / "warm-start", "train", assignments, world + 3_000_000, in_words=settings.in_words)
        rows = [(s.problem.images, question_text(s.problem, INSTRUCTION), s.solution.response) for s in scenes]
        warm = settings.warm_start
        fine_tune(start, rows, expert, world, warm.habit_learning_rate, warm.batch_size)
    return start
