"""Does a hint help a model in this process? The same measure as ``ptdpo.hints.usefulness`` behind an endpoint."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ptdpo.data.files import write_jsonl
from ptdpo.evaluate.benchmark import Benchmark, Local
from ptdpo.evaluate.fingerprint import data_fingerprint
from ptdpo.evaluate.loading import LoadedBenchmark
from ptdpo.evaluate.local import LocalEngine
from ptdpo.evaluate.run import check_sampling, evaluate_loaded
from ptdpo.evaluate.settings import Grading, SamplingSettings
from ptdpo.evaluate.store import GradedResponse, ResponseStore
from ptdpo.hints.usefulness import (
    HintedDraws,
    Usefulness,
    UsefulnessSettings,
    hinted_texts,
    summarise,
    usefulness_line,
)
from ptdpo.records import Problem

WITHOUT, WITH = "without", "with"


def measure_usefulness_here(
    model: str, problems: Path, hints: Path, out: Path, settings: UsefulnessSettings, *, batch_size: int
) -> Usefulness:
    """Answer every hinted problem with and without its hint; write one line per hint to ``out``.

    The answers are kept in a results folder beside ``out``, so that a stopped run goes on.

    Args:
        model: folder of a model or of an adapter, or hub id.
        problems: the problems.
        hints: their hints.
        out: file to write.
        settings: draws, sampling and instruction.
        batch_size: questions per batch.

    Raises:
        ValueError: if a file cannot be read, a hint has no problem, there is no such model, or sampling leaves to a
            server what has to be said here.
    """
    sampling = _sampling(settings, batch_size)
    texts = list(hinted_texts(problems, hints, settings))
    folder = out.with_name(f"{out.stem}_answers")
    loaded = [
        _questions(WITHOUT, problems, [replace(problem, problem=text) for problem, text, _ in texts]),
        _questions(WITH, problems, [replace(problem, problem=text) for problem, _, text in texts]),
    ]
    evaluate_loaded(LocalEngine(model), loaded, sampling, folder, Grading(settings.grading))
    without, hinted = (_by_question(ResponseStore(folder / name).read()) for name in (WITHOUT, WITH))
    compared = [
        HintedDraws(
            problem.id,
            settings.draws,
            sum(response.accuracy == 1 for response in without[problem.id]),
            sum(response.accuracy == 1 for response in hinted[problem.id]),
            sum(response.truncated for response in [*without[problem.id], *hinted[problem.id]]),
        )
        for problem, _, _ in texts
    ]
    write_jsonl(out, map(usefulness_line, compared))
    return summarise(compared)


def _questions(name: str, origin: Path, problems: Sequence[Problem]) -> LoadedBenchmark:
    """Return problems whose text is the whole prompt."""
    benchmark = Benchmark(name, name, "other", Local(str(origin), lambda _: []), rows=0, instruction=None)
    return LoadedBenchmark(benchmark, str(origin), len(problems), problems, [], data_fingerprint(problems), [])


def _sampling(settings: UsefulnessSettings, batch_size: int) -> SamplingSettings:
    asked = settings.sampling
    if asked.temperature is None or asked.top_p is None or asked.extra:
        raise ValueError(
            "a model in this process has no server to leave anything to: give --temperature and --top-p, and leave out "
            "--extra"
        )
    sampling = SamplingSettings(
        samples=settings.draws,
        max_new_tokens=asked.max_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        seed=asked.seed or 0,
        batch_size=batch_size,
    )
    check_sampling(sampling)
    return sampling


def _by_question(responses: Sequence[GradedResponse]) -> dict[str, list[GradedResponse]]:
    found: dict[str, list[GradedResponse]] = {}
    for response in responses:
        found.setdefault(response.id, []).append(response)
    return found
