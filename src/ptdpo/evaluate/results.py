"""From the responses in a results folder to numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptdpo.evaluate.averages import AVERAGES, unweighted
from ptdpo.evaluate.benchmarks import BENCHMARKS
from ptdpo.evaluate.settings import FILE, BenchmarkSettings, RunSettings, read_settings
from ptdpo.evaluate.store import GradedResponse, ResponseStore
from ptdpo.rewards.keys import answer_key
from ptdpo.statistics import (
    Estimate,
    Vote,
    estimate,
    interval,
    majority_vote,
    pass_at_k,
    powers_of_two,
    resampled_means,
)


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """What the responses to one benchmark say.

    Attributes:
        name: of the benchmark.
        data: what was asked.
        samples: responses per question.
        accuracy: avg@n, the mean over questions of the mean over samples, with its interval.
        pass_at: pass@k by k.
        majority: accuracy of the majority vote, with its interval; ``None`` with fewer than three samples.
        ties: share of questions whose vote is tied.
        format: share of responses in the right form.
        tokens: mean length in tokens.
        truncated: share of responses that were cut at the longest length.
        disputed: share of responses on which math-verify disagrees; ``None`` where it was not asked.
        ungraded: responses that got no proper verdict, such as a time-out, and count as wrong.
        alike: whether all samples of every question are the same text, though they were drawn.
        by_question: mean accuracy of each question, by id.
    """

    name: str
    data: BenchmarkSettings
    samples: int
    accuracy: Estimate
    pass_at: dict[int, float]
    majority: Estimate | None
    ties: float
    format: float
    tokens: float
    truncated: float
    disputed: float | None
    ungraded: int
    alike: bool
    by_question: Mapping[str, float]

    @property
    def title(self) -> str:
        """Return the heading of the benchmark's column."""
        return BENCHMARKS[self.name].title if self.name in BENCHMARKS else self.name


@dataclass(frozen=True, slots=True)
class Results:
    """What a results folder holds.

    Attributes:
        settings: of the run.
        benchmarks: those answered to the end, in the order of the table.
        missing: a line on each of the others.
    """

    settings: RunSettings
    benchmarks: Sequence[BenchmarkResult]
    missing: Sequence[str]


def read_results(folder: Path) -> Results:
    """Return the results of every benchmark in a folder that is answered to the end.

    Raises:
        ValueError: if the folder holds no evaluation, or none is complete.
    """
    settings = settings_of(folder)
    order = [name for name in BENCHMARKS if name in settings.benchmarks]
    order += [name for name in settings.benchmarks if name not in BENCHMARKS]
    results, missing = [], []
    for name in order:
        wanted = settings.benchmarks[name].questions * settings.sampling.samples
        responses = ResponseStore(folder / name).read()
        if len(responses) < wanted:
            missing.append(f"{name} is not complete: {len(responses)} of {wanted} responses")
        else:
            results.append(summarise(name, settings, responses))
    if not results:
        raise ValueError(f"{folder}: {'; '.join(missing)}; run the same command again")
    return Results(settings, results, missing)


def settings_of(folder: Path) -> RunSettings:
    """Return the settings of a results folder.

    Raises:
        ValueError: if it holds none.
    """
    settings = read_settings(folder)
    if settings is None:
        raise ValueError(f"{folder}: no {FILE} there: not the results of an evaluation")
    return settings


def summarise(name: str, settings: RunSettings, responses: Sequence[GradedResponse]) -> BenchmarkResult:
    """Return the numbers of one benchmark."""
    questions = _by_question(responses)
    samples = settings.sampling.samples
    means = {key: sum(r.accuracy for r in group) / len(group) for key, group in questions.items()}
    votes = [_vote(group) for group in questions.values()]
    right = [sum(r.accuracy == 1.0 for r in group) for group in questions.values()]
    return BenchmarkResult(
        name=name,
        data=settings.benchmarks[name],
        samples=samples,
        accuracy=estimate(list(means.values()), name),
        pass_at={
            k: float(np.mean([pass_at_k(right=c, samples=samples, k=k) for c in right])) for k in powers_of_two(samples)
        },
        majority=estimate([vote.accuracy for vote in votes], f"{name} majority") if samples > 2 else None,
        ties=float(np.mean([vote.tied for vote in votes])),
        format=float(np.mean([r.format for r in responses])),
        tokens=float(np.mean([r.tokens for r in responses])),
        truncated=float(np.mean([r.truncated for r in responses])),
        disputed=_disputed(responses),
        ungraded=sum(bool(r.note) for r in responses),
        alike=samples > 1 and all(len({r.response for r in group}) == 1 for group in questions.values()),
        by_question=means,
    )


def group_estimates(results: Sequence[BenchmarkResult]) -> dict[str, Estimate]:
    """Return the paper's averages that can be formed, by key: unweighted, each benchmark resampled by itself."""
    by_name = {result.name: result for result in results}
    means = {result.name: result.accuracy.mean for result in results}
    formed = {}
    for average in AVERAGES:
        mean = unweighted(means, average.members)
        if mean is not None:
            members = [by_name[name] for name in average.members]
            draws = np.mean([resampled_means(list(m.by_question.values()), m.name) for m in members], axis=0)
            formed[average.key] = Estimate(mean, *interval(draws))
    return formed


def _by_question(responses: Sequence[GradedResponse]) -> dict[str, list[GradedResponse]]:
    """Return the responses by question; sorted, so that the order in which they came does not matter."""
    questions: dict[str, list[GradedResponse]] = {}
    for response in sorted(responses, key=lambda r: r.key):
        questions.setdefault(response.id, []).append(response)
    return questions


def _disputed(responses: Sequence[GradedResponse]) -> float | None:
    asked = [r for r in responses if r.second is not None]
    return float(np.mean([r.second != r.accuracy for r in asked])) if asked else None


def _vote(group: Sequence[GradedResponse]) -> Vote:
    answers = [None if r.extracted is None else answer_key(r.extracted) for r in group]
    return majority_vote(answers, [r.accuracy for r in group])
