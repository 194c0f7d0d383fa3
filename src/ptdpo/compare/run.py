"""Run a comparison, one training at a time; what is finished is kept and never repeated.

Protocol: on the tuning seeds every recipe is trained with each of its candidates, and the one with the best mean
validation accuracy is chosen. On the final seeds each recipe is trained with its choice only, and tested once.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ptdpo.compare.plan import ComparedRecipe, ComparePlan, Setting, setting_name
from ptdpo.config import Recipe
from ptdpo.data.load import instruction_of, source_of
from ptdpo.evaluate.loading import LoadedBenchmark
from ptdpo.evaluate.run import check_sampling
from ptdpo.evaluate.scoring import Scores, load_problems, score_file
from ptdpo.evaluate.settings import Grading, SamplingSettings
from ptdpo.folders import sole_writer, write_text
from ptdpo.report.curves import line_chart, mean_over_runs
from ptdpo.report.page import CURVES
from ptdpo.runlog import FINISHED, METRICS_FILE, STARTED
from ptdpo.signals import heeding_signals
from ptdpo.train.metrics import last_steps_mean, read_metrics, step_seconds
from ptdpo.train.plan import make_plan, processor_if_local
from ptdpo.train.provenance import check_same, provenance_of
from ptdpo.train.run import check_processes, train_recipe

ANOTHER_FOLDER = "choose another --out folder"
VALIDATION, TEST = "validation", "test"
# The results folders of ``ptdpo evaluate`` in the folder of a seed and in that of a run.
START, ANSWERS = "start", "answers"


@dataclass(frozen=True, slots=True)
class TestedRun:
    """One final run: the numbers of its row in the table; NaN where its method logs none."""

    __test__ = False  # not a test, whatever its name suggests to pytest

    seed: int
    scores: Scores
    all_fail: float
    entropy: float
    kl: float
    seconds_per_step: float

    @property
    def accuracy(self) -> float:
        """Return the test accuracy."""
        return self.scores.accuracy


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
            were given otherwise than the plan now asks for, or if another process compares there.
        StoppedBySignal: if a signal ended it; what is finished is kept.
    """
    check_comparison(folder, plan)
    with sole_writer(folder, "compare"), heeding_signals(Console(stderr=True).print):
        return _run(folder, plan)


def _run(folder: Path, plan: ComparePlan) -> ComparisonResult:
    console = Console(stderr=True)
    for warning in plan.warnings:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    tuning = {arm.name: _tune(folder, arm, plan, console) for arm in plan.arms}
    chosen = {arm.name: best_setting(arm, tuning[arm.name]) for arm in plan.arms}
    runs: dict[str, list[TestedRun]] = {arm.name: [] for arm in plan.arms}
    start = {}
    for seed in plan.seeds:
        for arm in plan.arms:
            console.print(f"seed {seed}: {arm.name}, {setting_name(chosen[arm.name])}")
            home = run_folder(folder, seed, arm, chosen[arm.name])
            recipe = plan.recipe(arm, seed, chosen[arm.name], home)
            questions = questions_of(folder, recipe, TEST)
            if seed not in start:
                start[seed] = answered_scores(folder / f"seed-{seed}" / START, recipe.model, recipe, questions).accuracy
            runs[arm.name].append(tested_run(home, recipe, seed, questions))
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
    questions: dict[tuple[str, str], Recipe] = {}
    for arm in plan.arms:
        chooses = len(arm.candidates) > 1
        tuned = plan.tuning_seeds if chooses else ()
        for setting in arm.candidates:
            for n, seed in enumerate((*tuned, *plan.seeds)):
                home = run_folder(folder, seed, arm, setting)
                recipe = plan.recipe(arm, seed, setting, home)
                split = VALIDATION if n < len(tuned) else TEST
                questions[split, _file(recipe, split)] = recipe
                _check_run(home, recipe, arm.path, in_full=n == 0)
    for (split, _), recipe in questions.items():
        check_sampling(_sampling(recipe), section="evaluate")
        questions_of(folder, recipe, split, processor_if_local(recipe.model))


def _check_run(home: Path, recipe: Recipe, path: Path, *, in_full: bool) -> None:
    try:
        if in_full:
            _check_alone(recipe)
            make_plan(recipe)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    data = recipe.data
    for name in (data.path if source_of(data) in ("jsonl", "parquet") else "", data.hints, data.solutions):
        if name and not Path(name).exists():
            raise ValueError(f"{path}: {name}: no such file")
    check_made_by(home, recipe)


def _check_alone(recipe: Recipe) -> None:
    """Trainings follow each other in one process, and one process answers: a launcher of several has no place here."""
    if recipe.processes > 1:
        raise ValueError(
            f"processes={recipe.processes}: a comparison trains and answers in one process; set processes=1 and adjust "
            "the batch sizes, or train with torchrun and compare with ptdpo evaluate"
        )
    check_processes(recipe)


def _tune(folder: Path, arm: ComparedRecipe, plan: ComparePlan, console: Console) -> dict[str, list[float]]:
    """Return the validation accuracies of each candidate, one per tuning seed; empty if there is nothing to choose."""
    found: dict[str, list[float]] = {}
    for setting in arm.candidates if len(arm.candidates) > 1 else ():
        name = setting_name(setting)
        for seed in plan.tuning_seeds:
            console.print(f"tuning seed {seed}: {arm.name}, {name}")
            home = run_folder(folder, seed, arm, setting)
            recipe = plan.recipe(arm, seed, setting, home)
            train_once(home, recipe)
            scores = answered_scores(home / ANSWERS, str(home), recipe, questions_of(folder, recipe, VALIDATION))
            found.setdefault(name, []).append(scores.accuracy)
    return found


def best_setting(arm: ComparedRecipe, tuning: Mapping[str, list[float]]) -> Setting:
    """Return the candidate with the best mean over the tuning seeds; the only one if nothing was to be chosen."""
    if not tuning:
        return arm.candidates[0]
    return max(arm.candidates, key=lambda setting: statistics.fmean(tuning[setting_name(setting)]))


def run_folder(folder: Path, seed: int, arm: ComparedRecipe, setting: Setting) -> Path:
    """Return the folder of one run of a comparison."""
    return folder / f"seed-{seed}" / f"{arm.name}-{setting_name(setting)}"


def train_once(home: Path, recipe: Recipe) -> None:
    """Train unless that was finished before; an interrupted run goes on from its newest checkpoint, or starts anew."""
    check_made_by(home, recipe)
    if not (home / FINISHED).exists():
        train_recipe(recipe)


def check_made_by(home: Path, recipe: Recipe) -> None:
    """Refuse a run that was begun or finished with another recipe.

    Raises:
        ValueError: naming each setting that differs.
    """
    for name in (STARTED, FINISHED):
        check_same(home / name, provenance_of(recipe), ANOTHER_FOLDER)


def tested_run(home: Path, recipe: Recipe, seed: int, questions: LoadedBenchmark) -> TestedRun:
    """Train and answer the test questions, or take both from the folder, and return the numbers of the run."""
    train_once(home, recipe)
    scores = answered_scores(home / ANSWERS, str(home), recipe, questions)
    rows = read_metrics(home / METRICS_FILE)
    steps = step_seconds(rows)
    return TestedRun(
        seed,
        scores,
        last_steps_mean(rows, "groups/all_fail"),
        last_steps_mean(rows, "entropy"),
        last_steps_mean(rows, "kl"),
        statistics.median(steps) if steps else float("nan"),
    )


def answered_scores(out: Path, model: str, recipe: Recipe, questions: LoadedBenchmark) -> Scores:
    """Answer with a model whatever ``out`` has no answer to yet."""
    return score_file(out, model, questions, _sampling(recipe), Grading(recipe.data.grading))


def questions_of(folder: Path, recipe: Recipe, split: str, processor: Any = None) -> LoadedBenchmark:
    """Return the questions of ``VALIDATION`` or ``TEST`` of a recipe, read and checked."""
    path = Path(_file(recipe, split))
    return load_problems(path, split, instruction_of(recipe.data), folder / "images", processor)


def _file(recipe: Recipe, split: str) -> str:
    return recipe.evaluate.validation if split == VALIDATION else recipe.evaluate.test


def _sampling(recipe: Recipe) -> SamplingSettings:
    how = recipe.evaluate
    return SamplingSettings(
        samples=how.samples,
        max_new_tokens=how.max_new_tokens,
        temperature=how.temperature,
        top_p=how.top_p,
        seed=int(recipe.train.get("seed", 0)),
        batch_size=how.batch_size,
    )


def _write_curves(folder: Path, result: ComparisonResult) -> None:
    """Write one SVG per metric that is logged: the mean over the final seeds, one line per arm."""
    means = {}
    for arm in result.plan.arms:
        homes = [run_folder(folder, seed, arm, result.chosen[arm.name]) for seed in result.plan.seeds]
        means[arm.name] = mean_over_runs([read_metrics(home / METRICS_FILE) for home in homes], [c.key for c in CURVES])
    for curve in CURVES:
        logged = {name: rows for name, rows in means.items() if any(curve.key in row for row in rows)}
        if logged:
            write_text(folder / f"{curve.key.replace('/', '_')}.svg", line_chart(logged, curve))
