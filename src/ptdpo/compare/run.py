"""Run a comparison, one training at a time; what is finished is kept and never repeated.

Protocol: on the tuning seeds every recipe is trained with each of its candidates, and the one with the best mean
validation accuracy is chosen. On the final seeds each recipe is trained with its choice only, and tested once.
"""

import dataclasses
import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ptdpo.compare.plan import ComparedRecipe, ComparePlan, Setting, setting_name
from ptdpo.config import Recipe
from ptdpo.data.files import read_problems
from ptdpo.data.load import instruction_of
from ptdpo.evaluate.scoring import SamplingSettings, accuracy_by_source, mean_accuracy, score_problems
from ptdpo.folders import write_json, write_text
from ptdpo.models import load_model, load_processor
from ptdpo.report.curves import line_chart, mean_over_runs
from ptdpo.report.page import CURVES
from ptdpo.train.made_with import FINISHED, STARTED, check_same, made_with
from ptdpo.train.metrics import METRICS_FILE, last_steps_mean, read_metrics, step_seconds
from ptdpo.train.plan import make_plan
from ptdpo.train.run import check_processes, train_recipe

ANOTHER_FOLDER = "choose another --out folder"


@dataclass(frozen=True, slots=True)
class TestedRun:
    """One final run: the numbers of its row in the table; NaN where its method logs none."""

    __test__ = False  # not a test, whatever its name suggests to pytest

    seed: int
    accuracy: float
    by_source: dict[str, float]
    all_fail: float
    entropy: float
    kl: float
    seconds_per_step: float


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """The outcome: per arm what was tuned, chosen and tested, and how the start models did."""

    plan: ComparePlan
    tuning: dict[str, dict[str, list[float]]]
    chosen: dict[str, Setting]
    start: dict[int, float]
    runs: dict[str, list[TestedRun]]


def run_comparison(folder: Path, plan: ComparePlan) -> ComparisonResult:
    """Run or resume a comparison in a folder; writes comparison.json and one SVG per metric there.

    Raises:
        ValueError: on what ``check_comparison`` refuses, before anything is trained, or if answers in the folder
            were given otherwise than the plan now asks for.
    """
    check_comparison(folder, plan)
    console = Console(stderr=True)
    tuning = {arm.name: _tune(folder, arm, plan, console) for arm in plan.arms}
    chosen = {arm.name: _choice(arm, tuning[arm.name]) for arm in plan.arms}
    runs: dict[str, list[TestedRun]] = {arm.name: [] for arm in plan.arms}
    start = {}
    for seed in plan.seeds:
        for arm in plan.arms:
            console.print(f"seed {seed}: {arm.name}, {setting_name(chosen[arm.name])}")
            home = _home(folder, seed, arm, chosen[arm.name])
            recipe = plan.recipe(arm, seed, chosen[arm.name], home)
            if seed not in start:
                start[seed] = _scores(folder / f"seed-{seed}" / "start.json", recipe.model, recipe, "test")["accuracy"]
            runs[arm.name].append(_tested(home, recipe, seed))
    result = ComparisonResult(plan, tuning, chosen, start, runs)
    _write_curves(folder, result)
    return result


def check_comparison(folder: Path, plan: ComparePlan) -> None:
    """Find mistakes before the first training: a later recipe would fail after hours, with half a comparison made.

    Every candidate of every arm is planned once, on the seed that it is first trained on; for the other seeds its
    files must be there.

    Raises:
        ValueError: on any mistake in a recipe or its data, a questions file that cannot be read, or something in the
            folder that was made with other settings than the plan now asks for.
    """
    questions: set[str] = set()
    for arm in plan.arms:
        chooses = len(arm.candidates) > 1
        tuned = plan.tuning_seeds if chooses else ()
        for setting in arm.candidates:
            for n, seed in enumerate((*tuned, *plan.seeds)):
                home = _home(folder, seed, arm, setting)
                recipe = plan.recipe(arm, seed, setting, home)
                questions.add(recipe.evaluate.validation if n < len(tuned) else recipe.evaluate.test)
                _check_run(home, recipe, arm.path, in_full=n == 0)
    for path in sorted(questions):
        read_problems(path)


def _check_run(home: Path, recipe: Recipe, path: Path, *, in_full: bool) -> None:
    try:
        if in_full:
            check_processes(recipe)
            make_plan(recipe)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    data = recipe.data
    for name in (data.path if data.source in ("jsonl", "parquet") else "", data.hints, data.solutions):
        if name and not Path(name).exists():
            raise ValueError(f"{path}: {name}: no such file")
    _check_made_with(home, recipe)


def _tune(folder: Path, arm: ComparedRecipe, plan: ComparePlan, console: Console) -> dict[str, list[float]]:
    """Return the validation accuracies of each candidate, one per tuning seed; empty if there is nothing to choose."""
    found: dict[str, list[float]] = {}
    for setting in arm.candidates if len(arm.candidates) > 1 else ():
        name = setting_name(setting)
        for seed in plan.tuning_seeds:
            console.print(f"tuning seed {seed}: {arm.name}, {name}")
            home = _home(folder, seed, arm, setting)
            recipe = plan.recipe(arm, seed, setting, home)
            _train(home, recipe)
            scores = _scores(home / "validation.json", str(home), recipe, "validation")
            found.setdefault(name, []).append(scores["accuracy"])
    return found


def _choice(arm: ComparedRecipe, tuning: Mapping[str, list[float]]) -> Setting:
    if not tuning:
        return arm.candidates[0]
    return max(arm.candidates, key=lambda setting: statistics.fmean(tuning[setting_name(setting)]))


def _home(folder: Path, seed: int, arm: ComparedRecipe, setting: Setting) -> Path:
    return folder / f"seed-{seed}" / f"{arm.name}-{setting_name(setting)}"


def _train(home: Path, recipe: Recipe) -> None:
    """Train unless that was finished before; an interrupted run goes on from its newest checkpoint, or starts anew."""
    _check_made_with(home, recipe)
    if not (home / FINISHED).exists():
        train_recipe(recipe)


def _check_made_with(home: Path, recipe: Recipe) -> None:
    for name in (STARTED, FINISHED):
        check_same(home / name, made_with(recipe), ANOTHER_FOLDER)


def _tested(home: Path, recipe: Recipe, seed: int) -> TestedRun:
    _train(home, recipe)
    scores = _scores(home / "test.json", str(home), recipe, "test")
    rows = read_metrics(home / METRICS_FILE)
    steps = step_seconds(rows)
    return TestedRun(
        seed,
        scores["accuracy"],
        scores["by_source"],
        last_steps_mean(rows, "groups/all_fail"),
        last_steps_mean(rows, "entropy"),
        last_steps_mean(rows, "kl"),
        statistics.median(steps) if steps else float("nan"),
    )


def _scores(path: Path, model_path: str, recipe: Recipe, split: str) -> dict[str, Any]:
    """Answer the questions of a split with a model, unless that was done before."""
    how = recipe.evaluate
    problems = how.test if split == "test" else how.validation
    sampling = SamplingSettings(
        max_new_tokens=how.max_new_tokens,
        temperature=how.temperature,
        top_p=how.top_p,
        samples=how.samples,
        batch_size=how.batch_size,
        seed=int(recipe.train.get("seed", 0)),
        instruction=instruction_of(recipe.data),
    )
    asked = {"model": recipe.model, "problems": problems, "sampling": dataclasses.asdict(sampling)}
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        check_same(path, {**kept, **asked}, ANOTHER_FOLDER)
        return kept
    scored = score_problems(load_model(model_path), load_processor(model_path), read_problems(problems), sampling)
    scored = list(scored)
    scores = {"accuracy": mean_accuracy(scored), "by_source": accuracy_by_source(scored)}
    write_json(path, {**scores, **asked})
    return json.loads(path.read_text(encoding="utf-8"))


def _write_curves(folder: Path, result: ComparisonResult) -> None:
    """Write one SVG per metric that is logged: the mean over the final seeds, one line per arm."""
    means = {}
    for arm in result.plan.arms:
        homes = [_home(folder, seed, arm, result.chosen[arm.name]) for seed in result.plan.seeds]
        means[arm.name] = mean_over_runs([read_metrics(home / METRICS_FILE) for home in homes], [c.key for c in CURVES])
    for curve in CURVES:
        logged = {name: rows for name, rows in means.items() if any(curve.key in row for row in rows)}
        if logged:
            write_text(folder / f"{curve.key.replace('/', '_')}.svg", line_chart(logged, curve))
