"""Two runs over the same questions: paired differences with intervals, and a verdict in plain words."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ptdpo.evaluate.averages import AVERAGES, unweighted
from ptdpo.evaluate.results import BenchmarkResult, Results, read_results
from ptdpo.evaluate.settings import RunSettings
from ptdpo.evaluate.table import PrintedTable, csv_text, percent, with_interval
from ptdpo.folders import differences, write_json, write_text
from ptdpo.statistics import Estimate, interval, resampled_means

# Below this a bootstrap interval is too narrow to be believed.
FEWEST_QUESTIONS = 20

# Sampling settings that change what is measured; the seed and the batch size only change the draw.
_COMPARED = ("samples", "max_new_tokens", "temperature", "top_p", "top_k")


@dataclass(frozen=True, slots=True)
class Difference:
    """What the second run gains over the first on one benchmark, or on an average of them.

    Attributes:
        title: of the benchmark or average.
        questions: how many were paired; for an average, the fewest of its benchmarks.
        first: accuracy of the first run.
        second: accuracy of the second run.
        gain: second minus first, with its paired interval.
    """

    title: str
    questions: int
    first: float
    second: float
    gain: Estimate

    @property
    def verdict(self) -> str:
        """Return what may be said about the second run."""
        if self.questions < FEWEST_QUESTIONS:
            return f"too few questions to say (fewer than {FEWEST_QUESTIONS})"
        if self.gain.low > 0:
            return "better"
        if self.gain.high < 0:
            return "worse"
        return "not distinguishable"


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Two runs side by side.

    Attributes:
        first: the folder of the first run, the one compared with.
        second: the folder of the second run.
        differences: by benchmark, then the averages that can be formed.
        notes: what a reader should know.
    """

    first: str
    second: str
    differences: Sequence[Difference]
    notes: Sequence[str]

    def table(self) -> PrintedTable:
        """Return the differences in percentage points, with verdicts on the second run."""
        columns = ["benchmark", "questions", self.first, self.second, "difference [95 %]", f"{self.second} is"]
        rows = [
            [d.title, str(d.questions), percent(d.first), percent(d.second), with_interval(d.gain), d.verdict]
            for d in self.differences
        ]
        return PrintedTable(columns, rows)

    def markdown(self) -> str:
        """Return the table with its notes."""
        title = f"# {self.second} compared with {self.first}"
        return "\n\n".join([title, self.table().markdown(), "\n".join(f"- {n}" for n in self.notes)]).strip() + "\n"


def compare(first: Path, second: Path) -> PairedComparison:
    """Compare two results folders question by question.

    Raises:
        ValueError: if they were asked different questions or sampled or graded differently; names each difference.
    """
    runs = read_results(first), read_results(second)
    names = [{result.name: result for result in run.benchmarks} for run in runs]
    shared = [name for name in names[0] if name in names[1]]
    if not shared:
        raise ValueError(f"{first} ({', '.join(names[0])}) and {second} ({', '.join(names[1])}) share no benchmark")
    _refuse_unlike(runs[0].settings, runs[1].settings, shared, f"{first} and {second}")
    pairs = [(names[0][name], names[1][name]) for name in shared]
    draws = {one.name: resampled_means(_paired(one, two), one.name) for one, two in pairs}
    found = [
        _difference(one.title, len(one.by_question), one.accuracy.mean, two.accuracy.mean, draws[one.name])
        for one, two in pairs
    ]
    return PairedComparison(str(first), str(second), [*found, *_averages(pairs, draws)], _notes(runs, shared))


def _paired(first: BenchmarkResult, second: BenchmarkResult) -> list[float]:
    assert first.by_question.keys() == second.by_question.keys(), "equal fingerprints mean equal questions"
    return [second.by_question[key] - value for key, value in first.by_question.items()]


def _difference(title: str, questions: int, first: float, second: float, draws: np.ndarray) -> Difference:
    return Difference(title, questions, first, second, Estimate(second - first, *interval(draws)))


def _averages(
    pairs: Sequence[tuple[BenchmarkResult, BenchmarkResult]], draws: dict[str, np.ndarray]
) -> list[Difference]:
    first = {one.name: one.accuracy.mean for one, _ in pairs}
    second = {two.name: two.accuracy.mean for _, two in pairs}
    sizes = {one.name: len(one.by_question) for one, _ in pairs}
    found = []
    for average in AVERAGES:
        before, after = unweighted(first, average.members), unweighted(second, average.members)
        if before is not None and after is not None:
            drawn = np.mean([draws[name] for name in average.members], axis=0)
            fewest = min(sizes[name] for name in average.members)
            found.append(_difference(f"AVG {average.title}", fewest, before, after, drawn))
    return found


def _refuse_unlike(first: RunSettings, second: RunSettings, shared: Sequence[str], where: str) -> None:
    # The further fields of an endpoint's request have no counterpart in process.
    compared = (*_COMPARED, "extra") if first.model.engine == second.model.engine else _COMPARED
    unlike = differences(_decisive(first, shared, compared), _decisive(second, shared, compared))
    if unlike:
        told = [f"{one.name}: {one.made!r} against {one.asked!r}" for one in unlike]
        raise ValueError(f"{where} cannot be compared: {'; '.join(told)}")


def _decisive(settings: RunSettings, shared: Sequence[str], compared: Sequence[str]) -> dict[str, object]:
    data = [(name, settings.benchmarks[name]) for name in shared]
    return {
        "sampling": {name: getattr(settings.sampling, name) for name in compared},
        "grading mode": settings.grading.mode,
        "data fingerprint": {name: benchmark.fingerprint for name, benchmark in data},
        "instruction": {name: benchmark.instruction for name, benchmark in data},
    }


def _notes(runs: tuple[Results, Results], shared: Sequence[str]) -> list[str]:
    first, second = (run.settings for run in runs)
    notes = [f"first: {first.model.name}, second: {second.model.name}"]
    if first.model.revision == second.model.revision:
        notes.append("both runs are of the same model, by its revision")
    if first.model.engine != second.model.engine:
        notes.append(f"engines differ: {first.model.engine}, {second.model.engine}")
    notes += [
        f"versions differ: {one.name}: {one.made!r} and {one.asked!r}"
        for one in differences(first.versions, second.versions)
    ]
    for run, folder in zip(runs, ("first", "second"), strict=True):
        others = [result.name for result in run.benchmarks if result.name not in shared]
        notes += [f"only in the {folder} run: {', '.join(others)}"] if others else []
        notes += [f"{folder} run: {text}" for text in run.missing]
    return notes


def write_comparison(folder: Path, comparison: PairedComparison) -> None:
    """Write ``comparison.md``, ``comparison.json`` and ``comparison.csv``."""
    rows = [{**asdict(d), "verdict": d.verdict} for d in comparison.differences]
    content = {"first": comparison.first, "second": comparison.second, "differences": rows, "notes": comparison.notes}
    write_text(folder / "comparison.md", comparison.markdown())
    write_json(folder / "comparison.json", content, indent=2)
    write_text(folder / "comparison.csv", _csv(comparison))


def _csv(comparison: PairedComparison) -> str:
    return csv_text([
        {"name": d.title, "questions": d.questions, "first": d.first, "second": d.second,
         "difference": d.gain.mean, "low": d.gain.low, "high": d.gain.high, "verdict": d.verdict}
        for d in comparison.differences
    ])  # fmt: skip
