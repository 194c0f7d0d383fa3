"""One file of problems answered by a model in this process: what a comparison and the demo are judged by.

The path is that of ``ptdpo evaluate``: every response is kept in a results folder, which ``ptdpo evaluate compare``
pairs with another, question by question.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptdpo.evaluate.loading import LoadedBenchmark, declare, load_benchmark
from ptdpo.evaluate.local import LocalEngine
from ptdpo.evaluate.run import evaluate_loaded
from ptdpo.evaluate.settings import Grading, SamplingSettings

_SOUND = Grading()


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model's responses to one file say.

    Attributes:
        accuracy: mean over questions of the mean over samples.
        by_source: the same over the questions of each ``Problem.source``.
        by_question: mean over the samples of each question, by id.
        fingerprint: of the file's questions, answers and images: two files of one fingerprint ask the same.
    """

    accuracy: float
    by_source: Mapping[str, float]
    by_question: Mapping[str, float]
    fingerprint: str


def load_problems(path: Path, name: str, instruction: str, cache: Path, processor: Any = None) -> LoadedBenchmark:
    """Read and check a file of problems, JSONL or parquet.

    Args:
        path: the file.
        name: of the file's part in an experiment, such as ``test``; names the random streams and a folder.
        instruction: follows every question.
        processor: of the model that will read them: rows that it refuses cannot be asked.
        cache: where images that lie inside parquet files are written.

    Raises:
        ValueError: if it cannot be read, or a row cannot be asked; counts and lists those.
    """
    return load_benchmark(
        declare(name, path),
        path=path,
        cache=cache,
        instruction=instruction,
        processor=processor,
        remedy="mend them or take them out",
    )


def score_file(
    out: Path, model: str, loaded: LoadedBenchmark, sampling: SamplingSettings, grading: Grading = _SOUND
) -> Scores:
    """Answer what is not answered yet in the results folder ``out``, and return what all responses say.

    Args:
        out: a results folder of ``ptdpo evaluate``; other files may be answered in the same one.
        model: folder or hub id.
        loaded: ``load_problems`` of the file.
        sampling: how to sample.
        grading: how responses are graded.

    Raises:
        ValueError: if there is no such model, or ``out`` holds responses that were given with other settings.
    """
    results = evaluate_loaded(LocalEngine(model), [loaded], sampling, out, grading)
    name = loaded.benchmark.name
    result = next(result for result in results.benchmarks if result.name == name)
    sources = {problem.id: problem.source for problem in loaded.problems}
    groups: dict[str, list[float]] = {}
    for key, accuracy in result.by_question.items():
        groups.setdefault(sources[key], []).append(accuracy)
    by_source = {source: sum(group) / len(group) for source, group in sorted(groups.items())}
    return Scores(result.accuracy.mean, by_source, result.by_question, loaded.fingerprint)
