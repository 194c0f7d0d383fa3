"""Answers to graded responses."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ptdpo.evaluate.settings import Grading
from ptdpo.evaluate.store import GradedResponse, UngradedResponse
from ptdpo.records import Answered, Problem
from ptdpo.rewards import grade_many
from ptdpo.rewards.choices import read_options


def grade_answers(
    answers: Sequence[UngradedResponse], problems: Mapping[str, Problem], grading: Grading
) -> list[GradedResponse]:
    """Grade a batch of answers against the verified ones."""
    answers = [replace(answer, response=_encodable(answer.response)) for answer in answers]
    asked = [problems[answer.id] for answer in answers]
    items = [
        Answered(answer.response, problem.answer, read_options(problem.problem))
        for answer, problem in zip(answers, asked, strict=True)
    ]
    verdicts = grade_many(items, mode=grading.mode, second_opinion=grading.second_opinion)
    return [
        GradedResponse(
            answer.id,
            answer.sample,
            answer.response,
            verdict.extracted,
            verdict.accuracy,
            verdict.format,
            answer.tokens,
            answer.truncated,
            verdict.fallback,
            verdict.second,
            verdict.note,
        )
        for answer, verdict in zip(answers, verdicts, strict=True)
    ]


def _encodable(text: str) -> str:
    """Return the text with a question mark for each lone surrogate, which JSON can carry and UTF-8 cannot."""
    return text.encode(errors="replace").decode()
