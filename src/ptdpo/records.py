"""The frozen records that pass between stages. Each mirrors a line of the files described in docs/formats.md."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """A question about images with a checkable answer.

    Attributes:
        id: unique within a data set.
        images: paths of the image files, in the order in which the question refers to them; may be empty.
        problem: the question as text, without any image marker.
        answer: the verified answer as text.
        source: where the problem comes from.
        prompt_with_hint: the whole question with its hint, as data sets of the reference implementation store
            it; ``None`` or empty when there is none.
    """

    id: str
    images: tuple[str, ...]
    problem: str
    answer: str
    source: str = ""
    prompt_with_hint: str | None = None


@dataclass(frozen=True, slots=True)
class Hint:
    """An answer-free hint: ``look`` says where to look and what to ignore, ``reason`` how to go on from there."""

    look: str
    reason: str


@dataclass(frozen=True, slots=True)
class Solution:
    """A worked response to a problem: reasoning inside <think> </think>, then the boxed answer."""

    id: str
    response: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What grading found in one response.

    Attributes:
        accuracy: 1.0 if the extracted answer equals the expected one, else 0.0.
        format: 1.0 if the response thinks inside <think> </think> and then boxes an answer, else 0.0.
        extracted: the content of the last ``\\boxed{}``, ``None`` when there is none.
    """

    accuracy: float
    format: float
    extracted: str | None


@dataclass(frozen=True, slots=True)
class TutoredExample:
    """One tutored rollout as a run saw it: its tokens and how far each was from the teacher, in nats."""

    step: int
    problem_id: str
    tokens: tuple[str, ...]
    divergence: tuple[float, ...]
