"""The frozen records that pass between stages. Each mirrors a line of the files described in docs/formats.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

# How a response is graded: see ``ptdpo.rewards.grade_many``.
Grading = Literal["sound", "mathruler"]


@dataclass(frozen=True, slots=True)
class Problem:
    """A question about images with a checkable answer.

    Attributes:
        id: unique within a data set.
        images: paths of the image files, in the order in which the question refers to them; may be empty.
        problem: the question as text; a marker ``<image>`` for each image, where the text says where they stand.
        answer: the verified answer as text.
        source: where the problem comes from.
        prompt_with_hint: the whole question with its hint, as data sets of the reference implementation store
            it; ``None`` or empty when there is none.
        feedback: what a verifier or an environment says of failed answers to it; ``None`` or empty when there is none.
        hints: from vague to explicit, each a text that stands alone; empty when there are none.
        teacher_images: paths of what a teacher may see in the place of the images, or beside them: crops, marked
            regions, higher resolution; may be empty.
        contrast_images: paths of what it may see in the place of those to be contrasted with: other regions.
        where: it stands, for messages, where its id does not tell; no part of what it is.
    """

    id: str
    images: tuple[str, ...]
    problem: str
    answer: str
    source: str = ""
    prompt_with_hint: str | None = None
    feedback: str | None = None
    hints: tuple[str, ...] = ()
    teacher_images: tuple[str, ...] = ()
    contrast_images: tuple[str, ...] = ()
    where: str = field(default="", compare=False, repr=False)

    def bad(self, reason: str) -> BadRow:
        """Return this problem as a row that cannot be used."""
        return BadRow(self.id, f"{self.where}: {reason}" if self.where else reason)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row of a data set that cannot be used: its id, or where it stands, and why."""

    id: str
    reason: str


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
class Answered:
    """A response to be graded.

    Attributes:
        response: the response as decoded.
        answer: the verified answer.
        options: the texts of a multiple-choice question's options, A first; empty when there are none or they are
            not known. The mode sound reads them.
    """

    response: str
    answer: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What grading found in one response.

    Attributes:
        accuracy: 1.0 if the extracted answer equals the expected one, else 0.0.
        format: 1.0 if the response thinks inside <think> </think> and then boxes an answer, else 0.0.
        extracted: the answer that was graded, ``None`` when none was found.
        mode: how answers were compared: "sound" or "mathruler".
        fallback: where the answer was found: "boxed", or the fall-back that found it; "" when none was.
        second: math-verify's opinion of the accuracy; ``None`` when it was not asked or gave none.
        note: why there is no proper verdict (a time-out, say); "" otherwise.
    """

    accuracy: float
    format: float
    extracted: str | None
    mode: Grading = "sound"
    fallback: str = ""
    second: float | None = None
    note: str = ""

    @property
    def disputed(self) -> bool:
        """Whether math-verify was asked and disagrees."""
        return self.second is not None and self.second != self.accuracy


@dataclass(frozen=True, slots=True)
class TutoredExample:
    """One tutored rollout as a run saw it: its tokens and how far each was from the teacher, in nats."""

    step: int
    problem_id: str
    tokens: tuple[str, ...]
    divergence: tuple[float, ...]
