"""Evaluate a model on benchmarks: every response kept as it comes, tables at the end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ptdpo.config import BadRows
from ptdpo.data.rows import Reading
from ptdpo.evaluate.averages import PAPER
from ptdpo.evaluate.fingerprint import package_versions
from ptdpo.evaluate.grading import grade_answers
from ptdpo.evaluate.loading import LoadedBenchmark, declare, load_benchmark
from ptdpo.evaluate.prompts import prompt_parts, prompt_text
from ptdpo.evaluate.results import Results, read_results
from ptdpo.evaluate.settings import (
    BenchmarkSettings,
    Grading,
    ModelSettings,
    RunSettings,
    SamplingSettings,
    claim_folder,
)
from ptdpo.evaluate.store import ResponseStore, UngradedResponse
from ptdpo.evaluate.table import write_tables
from ptdpo.evaluate.task import Task
from ptdpo.folders import sole_writer
from ptdpo.signals import StopRequest, heeding_signals
from ptdpo.values import Count, check_limits

PAPER_SUITE = "papo"


class Answering(Protocol):
    """Something that answers questions."""

    def describe(self) -> ModelSettings:
        """Return which model answers."""
        ...

    def processor(self) -> Any:
        """Return what reads the prompts, if that is known here: rows that it refuses are bad ones."""
        ...

    def answer(self, task: Task, keep: Callable[[list[UngradedResponse]], None]) -> None:
        """Answer whatever is not done; hand over answers as they come."""
        ...


@dataclass(frozen=True, slots=True)
class DataChoice:
    """Which questions are asked.

    Attributes:
        names: benchmarks, in the order in which they are run.
        paths: files or folders to read instead of a benchmark's source, by name.
        limit: so many questions of each, drawn by a fixed seed; ``None`` for all.
        bad_rows: refuse or drop rows that cannot be asked.
        instruction: instead of the standard one; ``None`` keeps each benchmark's.
        reading: how the rows of files of the user's own are read.
    """

    names: Sequence[str]
    paths: Mapping[str, Path]
    limit: Count | None = None
    bad_rows: BadRows = "refuse"
    instruction: str | None = None
    reading: Reading = field(default_factory=Reading)

    def __post_init__(self) -> None:
        """Refuse a limit that leaves no question.

        Raises:
            ValueError: names it.
        """
        check_limits(self)


def parse_names(text: str) -> list[str]:
    """Return the benchmarks of a comma-separated list; ``papo`` stands for the paper's nine.

    Raises:
        ValueError: if the list is empty.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError("no benchmark named: give --benchmarks NAME[,NAME...], or papo for the paper's nine")
    expanded = [member for name in names for member in (PAPER if name == PAPER_SUITE else (name,))]
    return list(dict.fromkeys(expanded))


def load_all(choice: DataChoice, cache: Path, processor: Any = None) -> list[LoadedBenchmark]:
    """Load and check every benchmark before a model is.

    Raises:
        ValueError: as ``load_benchmark``; or if an instruction is given that no benchmark would use.
    """
    declared = [declare(name, choice.paths.get(name)) for name in choice.names]
    if choice.instruction is not None and all(benchmark.baked for benchmark in declared):
        raise ValueError("--instruction would do nothing: the prompts of these benchmarks are in their rows")
    unused = [name for name in choice.paths if name not in choice.names]
    if unused:
        raise ValueError(f"--data {unused[0]}=...: {unused[0]!r} is not among the benchmarks {', '.join(choice.names)}")
    return [
        load_benchmark(
            benchmark,
            path=choice.paths.get(benchmark.name),
            cache=cache,
            limit=choice.limit,
            bad_rows=choice.bad_rows,
            instruction=choice.instruction,
            processor=processor,
            reading=choice.reading,
        )
        for benchmark in declared
    ]


def evaluate(
    engine: Answering,
    choice: DataChoice,
    sampling: SamplingSettings,
    out: Path,
    *,
    cache: Path,
    grading: Grading | None = None,
) -> Results:
    """Ask everything that is not answered yet, grade it, write tables, and return the results.

    Raises:
        ValueError: if the data cannot be used, or ``out`` holds results with other settings.
    """
    check_sampling(sampling)
    return evaluate_loaded(engine, load_all(choice, cache, engine.processor()), sampling, out, grading)


def evaluate_loaded(
    engine: Answering,
    loaded: Sequence[LoadedBenchmark],
    sampling: SamplingSettings,
    out: Path,
    grading: Grading | None = None,
) -> Results:
    """Do what ``evaluate`` does with benchmarks that are loaded.

    Raises:
        ValueError: if there is no such model, ``out`` holds results with other settings, or another process writes
            there.
        StoppedBySignal: if a signal ended it before the last answer; those that were there are kept.
    """
    grading = grading or Grading()
    data = {benchmark.benchmark.name: _data_settings(benchmark) for benchmark in loaded}
    settings = RunSettings(engine.describe(), sampling, grading, package_versions(), data)
    with sole_writer(out, "evaluate"), heeding_signals(Console(stderr=True).print) as stop:
        claim_folder(out, settings)
        with _progress() as progress:
            for benchmark in loaded:
                _answer_all(engine, benchmark, out, settings, progress, stop)
        results = read_results(out)
        write_tables(out, results)
    return results


def check_sampling(sampling: SamplingSettings, *, section: str = "") -> None:
    """Refuse settings under which nothing could be sampled.

    Args:
        sampling: the settings.
        section: of the recipe that has them; empty without one.

    Raises:
        ValueError: names the setting.
    """
    before = f"{section}." if section else ""
    check_limits(sampling, before + "{}")
    if sampling.temperature == 0 and sampling.samples > 1:
        raise ValueError(
            f"{before}samples={sampling.samples}: at temperature=0 it would be the same response each time"
        )


def _answer_all(
    engine: Answering,
    loaded: LoadedBenchmark,
    out: Path,
    settings: RunSettings,
    progress: Progress,
    stop: StopRequest,
) -> None:
    name, sampling = loaded.benchmark.name, settings.sampling
    problems = {problem.id: problem for problem in loaded.problems}
    with ResponseStore(out / name) as store:
        done = {response.key for response in store.read(problems, sampling.samples)}
        bar = progress.add_task(name, total=len(problems) * sampling.samples, completed=len(done))

        def keep(answers: list[UngradedResponse]) -> None:
            store.append(grade_answers(answers, problems, settings.grading))
            progress.advance(bar, len(answers))
            stop.check(f"{out}: every answer so far is kept; the same command goes on")

        engine.answer(Task(name, loaded.problems, loaded.benchmark.instruction, sampling, done, out / name), keep)


def _data_settings(loaded: LoadedBenchmark) -> BenchmarkSettings:
    return BenchmarkSettings(
        loaded.origin,
        loaded.fingerprint,
        len(loaded.problems),
        loaded.found,
        [[row.id, row.reason] for row in loaded.left_out],
        loaded.benchmark.instruction,
        prompt_text(prompt_parts(loaded.problems[0], loaded.benchmark.instruction)),
        list(loaded.notes),
    )


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("responses")
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
