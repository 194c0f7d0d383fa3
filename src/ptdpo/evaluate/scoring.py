"""Sample responses to problems and grade them: question only, as in the paper's evaluation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from ptdpo.data.prompts import THINKING_INSTRUCTION, question_text
from ptdpo.models.sampling import sample_responses
from ptdpo.records import Problem, Verdict
from ptdpo.rewards import grade


@dataclass(frozen=True, slots=True)
class ScoredResponse:
    """One sampled response with its verdict."""

    problem: Problem
    sample: int
    response: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How responses are sampled; the defaults are the paper's. A temperature of 0 is greedy."""

    max_new_tokens: int = 4096
    temperature: float = 1.0
    top_p: float = 1.0
    samples: int = 1
    seed: int = 0
    batch_size: int = 64
    instruction: str = THINKING_INSTRUCTION


def score_problems(
    model: PreTrainedModel, processor: Any, problems: Sequence[Problem], settings: SamplingSettings
) -> Iterator[ScoredResponse]:
    """Yield ``settings.samples`` graded responses per problem; sampling has its own random stream."""
    for sample in range(settings.samples):
        batches = sample_responses(
            model,
            processor,
            [(question_text(problem, settings.instruction), problem.images) for problem in problems],
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
            batch_size=settings.batch_size,
            seed=settings.seed + sample * 1_000_003,
            greedy=settings.temperature == 0,
        )
        responses = (response for batch in batches for response in batch)
        for problem, response in zip(problems, responses, strict=True):
            yield ScoredResponse(problem, sample, response, grade(response, problem.answer))


def mean_accuracy(scored: Sequence[ScoredResponse]) -> float:
    """Return the mean accuracy.

    Raises:
        ValueError: if there is nothing to average.
    """
    if not scored:
        raise ValueError("there are no responses to average")
    return sum(s.verdict.accuracy for s in scored) / len(scored)


def accuracy_by_source(scored: Sequence[ScoredResponse]) -> dict[str, float]:
    """Return the mean accuracy per ``Problem.source``."""
    groups: dict[str, list[ScoredResponse]] = {}
    for response in scored:
        groups.setdefault(response.problem.source, []).append(response)
    return {source: mean_accuracy(group) for source, group in sorted(groups.items())}
