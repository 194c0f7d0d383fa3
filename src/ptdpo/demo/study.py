"""``ptdpo study``: the demo's arms over several seeds, with settings chosen on validation and tested once.

Protocol: a world is a set of hidden rules with a warm-started model; seeds take the worlds in turn. On the tuning
seeds every arm is trained with every setting of one small grid, the same learning rates for all arms, and the
setting with the best mean validation accuracy is chosen. On the final seeds each arm is trained with its chosen
setting only, and its test split is touched once.
"""

import itertools
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from ptdpo.demo.run import claim_folder, finished_arm, summarise
from ptdpo.demo.setting import Arm, DemoData, DemoSettings, make_data
from ptdpo.demo.training import evaluate, train_arm, warm_start
from ptdpo.evaluate.intervals import paired_interval
from ptdpo.evaluate.scoring import mean_accuracy
from ptdpo.report.curves import line_chart, mean_over_runs
from ptdpo.report.page import CURVES
from ptdpo.train.metrics import METRICS_FILE, read_metrics

REPORTED = ("test_accuracy", "all_fail", "entropy", "kl")


@dataclass(frozen=True, slots=True)
class StudyArm:
    """An arm with the part of the grid that is its own.

    Attributes:
        preset: a name of ``ptdpo.config.PRESETS``.
        tutoring_weights: candidates for lambda; ``(0.0,)`` without tutoring.
        rl_weight: 0 switches the policy gradient off.
    """

    preset: str
    tutoring_weights: tuple[float, ...] = (0.0,)
    rl_weight: float = 1.0


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """A study: worlds, seeds, grid and arms; the first arm is the one that others are compared with."""

    worlds: tuple[int, ...]
    tuning_seeds: tuple[int, ...]
    seeds: tuple[int, ...]
    learning_rates: tuple[float, ...]
    arms: dict[str, StudyArm]

    def world(self, seed: int) -> int:
        """Return the world that a seed trains in."""
        return self.worlds[seed % len(self.worlds)]

    def candidates(self, name: str) -> list[Arm]:
        """Return every setting of an arm in the grid."""
        arm = self.arms[name]
        grid = itertools.product(self.learning_rates, arm.tutoring_weights)
        return [Arm(arm.preset, rate, weight, arm.rl_weight) for rate, weight in grid]


def read_plan(path: str | Path) -> StudyPlan:
    """Read a study plan.

    Raises:
        ValueError: if the file is missing, a key is missing or unknown, or there is no arm.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such study plan")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        arms = {
            name: StudyArm(**{**arm, "tutoring_weights": tuple(arm.get("tutoring_weights", (0.0,)))})
            for name, arm in content.pop("arms").items()
        }
        plan = StudyPlan(arms=arms, **{key: tuple(value) for key, value in content.items()})
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a study plan ({error})") from error
    if not arms:
        raise ValueError(f"{path}: there is no arm to compare")
    return plan


def run_study(folder: Path, plan: StudyPlan, settings: DemoSettings | None = None) -> dict[str, Any]:
    """Run or resume a study; every finished training is kept, and read instead of being repeated."""
    settings = settings or DemoSettings()
    console = Console(stderr=True)
    scores = {name: _tune(folder, name, plan, settings, console) for name in plan.arms}
    chosen = {name: plan.candidates(name)[_best(scores[name])] for name in plan.arms}
    final: dict[str, list[dict[str, Any]]] = {name: [] for name in plan.arms}
    starts = []
    for seed in plan.seeds:
        starts.append(_start_accuracy(folder, seed, plan, settings))
        for name in plan.arms:
            console.print(f"final: seed {seed}, {name}, {_setting_name(chosen[name])}")
            final[name].append(_trained(folder, seed, name, chosen[name], "test", plan, settings))
    result = {
        "plan": asdict(plan),
        "tuning": {
            name: {_setting_name(a): s for a, s in zip(plan.candidates(name), scores[name], strict=True)}
            for name in plan.arms
        },
        "chosen": {name: asdict(arm) for name, arm in chosen.items()},
        "start": starts,
        "final": final,
    }
    (folder / "study.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    _write_curves(folder, plan, chosen)
    return result


def _write_curves(folder: Path, plan: StudyPlan, chosen: Mapping[str, Arm]) -> None:
    """Write one SVG per metric: the mean over the final seeds, one line per arm."""
    keys = [curve.key for curve in CURVES]
    means = {
        name: mean_over_runs([read_metrics(_home(folder, seed, name, arm) / METRICS_FILE) for seed in plan.seeds], keys)
        for name, arm in chosen.items()
    }
    for curve in CURVES:
        path = folder / f"{curve.key.replace('/', '_')}.svg"
        path.write_text(line_chart(means, curve), encoding="utf-8")


def _home(folder: Path, seed: int, name: str, arm: Arm) -> Path:
    return folder / f"seed-{seed}" / f"{name}-{_setting_name(arm)}"


def _tune(folder: Path, name: str, plan: StudyPlan, settings: DemoSettings, console: Console) -> list[list[float]]:
    """Return the validation accuracies of every candidate, one per tuning seed."""
    scores = []
    for arm in plan.candidates(name):
        console.print(f"tuning: {name}, {_setting_name(arm)}")
        results = [_trained(folder, seed, name, arm, "validation", plan, settings) for seed in plan.tuning_seeds]
        scores.append([result["validation_accuracy"] for result in results])
    return scores


def _best(scores: Sequence[Sequence[float]]) -> int:
    return max(range(len(scores)), key=lambda n: statistics.fmean(scores[n]))


def _setting_name(arm: Arm) -> str:
    return f"lr{arm.learning_rate:g}-lambda{arm.tutoring_weight:g}"


def _start_accuracy(folder: Path, seed: int, plan: StudyPlan, settings: DemoSettings) -> dict[str, Any]:
    path = folder / f"seed-{seed}" / "start_test.json"
    if not path.exists():
        data, start = _prepared(folder, seed, plan, settings)
        scored = evaluate(start, data.test, seed, settings)
        _write(path, {"test_accuracy": mean_accuracy(scored)})
    return json.loads(path.read_text(encoding="utf-8"))


def _prepared(folder: Path, seed: int, plan: StudyPlan, settings: DemoSettings) -> tuple[DemoData, Path]:
    """Return the data of a seed and the start model of its world, made when they are not there."""
    world = plan.world(seed)
    claim_folder(folder / f"seed-{seed}", world, replace(settings, arms={}))
    start = warm_start(folder / f"world-{world}", world, settings)
    return make_data(folder / f"seed-{seed}" / "data", world, seed, settings), start


def _trained(
    folder: Path, seed: int, name: str, arm: Arm, split: str, plan: StudyPlan, settings: DemoSettings
) -> dict[str, Any]:
    """Train one arm on one seed and score it on a split, unless that was done before."""
    home = _home(folder, seed, name, arm)
    path = home / f"{split}.json"
    if not path.exists():
        data, start = _prepared(folder, seed, plan, settings)
        run = finished_arm(home) or train_arm(name, arm, start, data, home, seed, settings)
        scored = evaluate(run.folder, data.test if split == "test" else data.validation, seed, settings)
        if split == "test":
            _write(path, {"seed": seed, **summarise(run, scored).as_json()})
        else:
            _write(path, {"seed": seed, "validation_accuracy": mean_accuracy(scored)})
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, content: Mapping[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content) + "\n", encoding="utf-8")
    partial.replace(path)


def study_tables(result: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Yield the tables of a study as (title, columns, rows of cells)."""
    final = result["final"]
    start = [s["test_accuracy"] for s in result["start"]]
    rows: list[tuple[str, ...]] = [("start", "", _spread(start), "", "", "")]
    for name, runs in final.items():
        chosen = result["chosen"][name]
        setting = f"lr {chosen['learning_rate']:g}, lambda {chosen['tutoring_weight']:g}"
        rows.append((name, setting, *(_spread([run[key] for run in runs]) for key in REPORTED)))
    yield "Final seeds, mean and standard deviation", ("", "chosen setting", *REPORTED), rows
    baseline, *others = final
    differences = []
    for name in others:
        pairs = list(zip(final[name], final[baseline], strict=True))
        cells = [
            "{:+.3f} [{:+.3f}, {:+.3f}]".format(*paired_interval([a[key] - b[key] for a, b in pairs]))
            for key in REPORTED
        ]
        differences.append((f"{name} - {baseline}", *cells))
    yield "Paired difference with its 95 % interval (t)", ("", *REPORTED), differences
    yield "Test accuracy per seed", ("seed", "start", *final), _per_seed(result["start"], final)
    sources = sorted({source for runs in final.values() for run in runs for source in run["by_rule"]})
    by_rule = [
        (name, *(_spread([run["by_rule"][source] for run in runs]) for source in sources))
        for name, runs in final.items()
    ]
    yield "Test accuracy per rule", ("", *sources), by_rule


def _per_seed(starts: Sequence[Mapping[str, float]], final: Mapping[str, Any]) -> list[tuple[str, ...]]:
    runs = zip(*final.values(), strict=True)
    return [
        (str(row[0]["seed"]), f"{start['test_accuracy']:.3f}", *(f"{run['test_accuracy']:.3f}" for run in row))
        for start, row in zip(starts, runs, strict=True)
    ]


def _spread(values: Sequence[float]) -> str:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "-"
    deviation = statistics.stdev(known) if len(known) > 1 else float("nan")
    return f"{statistics.fmean(known):.3f} ± {deviation:.3f}"
