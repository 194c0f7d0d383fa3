"""``ptdpo demo``: data, tiny model, warm start, arms, evaluation, one table, one page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ptdpo.demo.setting import DemoData, DemoSettings, make_data
from ptdpo.demo.training import ArmRun, score, train_arm, warm_start
from ptdpo.evaluate.scoring import Scores
from ptdpo.folders import claim, sole_writer, write_json, write_text
from ptdpo.report.page import Page, ShownExample, render
from ptdpo.runlog import FINISHED
from ptdpo.train.examples import read_examples
from ptdpo.train.metrics import PartsClock, last_steps_mean, read_metrics

SHOWN_EXAMPLES = 5
SETTINGS_FILE = "settings.json"
MAKES = ("data", "fresh", "skilled", "practised-*", "start", "warm-start", "grpo", "ptd-grpo", "*.json", "index.html")


@dataclass(frozen=True, slots=True)
class ArmResult:
    """What the table says about one arm; the means are over its last 20 steps."""

    name: str
    test_accuracy: float
    by_rule: Mapping[str, float]
    all_fail: float
    entropy: float
    kl: float
    steps: int

    def as_json(self) -> dict[str, Any]:
        """Return the fields under the names of result.json."""
        return {
            "test_accuracy": self.test_accuracy,
            "by_rule": self.by_rule,
            "all_fail": self.all_fail,
            "entropy": self.entropy,
            "kl": self.kl,
            "steps": self.steps,
        }


def run_demo(folder: Path, seed: int, settings: DemoSettings | None = None) -> dict[str, Any]:
    """Run the whole demo into ``folder`` and return the content of its ``result.json``.

    Finished parts (data, warm start, arms) found in the folder are used as they are, so an interrupted demo
    goes on where it stopped.

    Raises:
        ValueError: if the folder holds a demo with another seed or other settings, or another process writes there.
    """
    with sole_writer(folder, "demo"):
        return _run(folder, seed, settings or DemoSettings())


def _run(folder: Path, seed: int, settings: DemoSettings) -> dict[str, Any]:
    clock = PartsClock()
    claim_folder(folder, seed, settings)
    with clock("data"):
        data = make_data(folder / "data", seed, seed, settings)
    with clock("warm_start"):
        start = warm_start(folder, seed, settings)
    with clock("evaluate"):
        at_start = score(folder / "answers" / "start", start, data, seed, settings)
    results, runs = [], []
    for name, arm in settings.arms.items():
        with clock(name):
            run = finished_arm(folder / name) or train_arm(name, arm, start, data, folder / name, seed, settings)
        with clock("evaluate"):
            scores = score(folder / "answers" / name, run.folder, data, seed, settings)
        results.append(summarise(run, scores))
        runs.append(run)
    seconds = clock.take()
    result = {
        "seed": seed,
        "start": {"test_accuracy": at_start.accuracy, "by_rule": at_start.by_source},
        **{r.name: r.as_json() for r in results},
        "seconds": {**seconds, "total": sum(seconds.values())},
    }
    write_json(folder / "result.json", result, indent=2)
    page = demo_page(seed, at_start.accuracy, results, runs, data)
    write_text(folder / "index.html", render(page))
    return result


def claim_folder(folder: Path, seed: int, settings: DemoSettings) -> None:
    """Write down what a folder is for; refuse one that was made for something else."""
    claim(folder / SETTINGS_FILE, {"seed": seed, **asdict(settings)}, "choose another --out")


def finished_arm(folder: Path) -> ArmRun | None:
    """Return the arm trained in a folder, or ``None`` if it is not there or not finished."""
    return ArmRun(folder.name, folder) if (folder / FINISHED).exists() else None


def summarise(run: ArmRun, scores: Scores) -> ArmResult:
    """Return the table row of an arm from its metrics and its test scores."""
    rows = read_metrics(run.metrics)
    return ArmResult(
        run.name,
        scores.accuracy,
        scores.by_source,
        last_steps_mean(rows, "groups/all_fail"),
        last_steps_mean(rows, "entropy"),
        last_steps_mean(rows, "kl"),
        len(rows),
    )


def demo_page(
    seed: int, start_accuracy: float, results: Sequence[ArmResult], runs: Sequence[ArmRun], data: DemoData
) -> Page:
    """Return the page of a demo."""
    problems = {scene.problem.id: scene for scene in data.train}
    tutored = [example for run in runs for example in read_examples(run.folder) if example.problem_id in problems]
    every = max(len(tutored) // SHOWN_EXAMPLES, 1)
    shown = [
        ShownExample(problems[e.problem_id].problem, problems[e.problem_id].hint, e)
        for e in tutored[::every][:SHOWN_EXAMPLES]
    ]
    return Page(
        title=f"ptdpo demo, seed {seed}",
        intro="A tiny Qwen3-VL answers questions whose rule it must discover. Both runs start from the same "
        "model, see the same prompts and never read a hint; in PTD-GRPO a frozen copy of the start model reads "
        "the hint along each failed rollout. One seed proves nothing: the comparison over seeds is in docs/demo.md.",
        columns=("", *TABLE_COLUMNS),
        rows=table_rows(start_accuracy, results),
        runs={run.name: read_metrics(run.metrics) for run in runs},
        examples=shown,
    )


TABLE_COLUMNS = ("test accuracy", "all-fail groups", "entropy", "KL")


def table_rows(start_accuracy: float, results: Sequence[ArmResult]) -> list[tuple[str, ...]]:
    """Return the cells of the demo's table, one row per arm after that of the start."""
    rows = [("start", f"{start_accuracy:.3f}", "", "", "")]
    for r in results:
        rows.append((r.name, f"{r.test_accuracy:.3f}", f"{r.all_fail:.3f}", f"{r.entropy:.3f}", f"{r.kl:.4f}"))
    return rows
