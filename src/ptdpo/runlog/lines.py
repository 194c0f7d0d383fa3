"""The lines of a run's records, as frozen types; docs/formats.md describes the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

FOLDER = "records"
IMAGES = "images"
LEADING = 5


@dataclass(frozen=True, slots=True)
class QuestionLine:
    """A question, written when a process first keeps a group of it.

    Attributes:
        step: at which that was.
        id: of the row of the data set; if the data has none, # and eight digits of a hash of what it holds.
        hint_id: of what the teacher is shown, as in ``GroupLine``.
        question: what the policy reads, as text; a marker ``<image>`` for each image unless all come first.
        answer: the verified one.
        context: what the teacher is shown, such as ``hint``, or without a teacher the policy in some rollouts; empty:
            nobody is shown more than the question.
        hint: what of it the row has, as text; empty where it has nothing.
        images: file names below ``records/images``, made smaller where they were large.
        teacher_images: of what the teacher sees, if it sees others than the policy.
    """

    step: int
    id: str
    hint_id: str
    question: str
    answer: str
    context: str = ""
    hint: str = ""
    images: Sequence[str] = ()
    teacher_images: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class RolloutLine:
    """One response of a group.

    Attributes:
        rollout: its place in the group, from 0.
        response: as text, without special tokens.
        tokens: its length.
        reward: weighted, as advantages are computed from it; ``None`` if the engine does not say.
        accuracy: r in {0, 1}, which routing reads; ``None``: not graded.
        extracted: the answer as ``ptdpo.rewards`` finds it in the response; ``None`` where there is none.
        advantage: with which it is trained; ``None``: that is no number.
        reason: ``tutored``, or why it is not: ``right``, ``threshold`` (its group is not activated), ``not selected``,
            ``no context``, ``nothing to read`` (an empty response, or none drawn under the teacher's context), ``off``.
        place: where the answer was found: ``boxed``, or the fall-back that found it; empty where none did.
        drawn_with: what the policy was shown besides the question when it drew this: ``hint 1``, ``hint 2`` (levels of
            the hint, the vaguest first), or the teacher's context; empty: nothing.
        hint_level: which of its hints the teacher was to read along it, the vaguest being 1; 0: it has no list of them.
    """

    rollout: int
    response: str
    tokens: int
    reward: float | None
    accuracy: float | None
    extracted: str | None
    advantage: float | None
    reason: str
    place: str = ""
    drawn_with: str = ""
    hint_level: int = 0

    @property
    def tutored(self) -> bool:
        """Return whether the teacher read it."""
        return self.reason == "tutored"


@dataclass(frozen=True, slots=True)
class GroupLine:
    """The responses to one question at one step that a process holds; groups may be spread over processes.

    Attributes:
        step: the optimiser step that they were sampled for.
        group: counted over all processes.
        id: of the question.
        hint_id: eight digits of a hash of what the teacher is shown; empty if it is shown nothing.
        reader: the reward function whose verdict the accuracy is.
        rollouts: by their place.
    """

    step: int
    group: int
    id: str
    hint_id: str
    reader: str
    rollouts: Sequence[RolloutLine]

    @property
    def key(self) -> tuple[int, int]:
        """Return what names a group within its run."""
        return self.step, self.group


@dataclass(frozen=True, slots=True)
class Leading:
    """The most probable tokens at each position: ids and probabilities, ``LEADING`` of each per token."""

    ids: Sequence[Sequence[int]]
    probs: Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class TokenLine:
    """One response token by token, as it was trained on.

    Attributes:
        step: the optimiser step that trained on it.
        sampled: the step of its ``GroupLine``.
        group, rollout: as there.
        ids: [T], its tokens.
        log_probs: [T], log pi of them.
        entropy: [T], of the next-token distribution, in nats.
        divergence: [T], of student and teacher, in nats; ``None``: not tutored.
        student, teacher: [T, 5]; ``None`` where unknown.
        texts: the text of each id that occurs above, by the id as text.
    """

    step: int
    sampled: int
    group: int
    rollout: int
    ids: Sequence[int]
    log_probs: Sequence[float]
    entropy: Sequence[float]
    divergence: Sequence[float] | None
    student: Leading | None
    teacher: Leading | None
    texts: Mapping[str, str]

    @property
    def key(self) -> tuple[int, int, int]:
        """Return what names a rollout within its run."""
        return self.sampled, self.group, self.rollout


Line = QuestionLine | GroupLine | TokenLine
# File names before the number of the process.
KINDS: dict[type, str] = {QuestionLine: "questions", GroupLine: "groups", TokenLine: "tokens"}


def _row(line: Line | RolloutLine) -> dict[str, Any]:
    # ``asdict`` would copy every number.
    return {field.name: getattr(line, field.name) for field in fields(line)}


def as_json(line: Line) -> dict[str, Any]:
    """Return a line as JSON has it; ``step`` is its first key."""
    row = _row(line)
    if isinstance(line, GroupLine):
        row["rollouts"] = [_row(rollout) for rollout in line.rollouts]
    if isinstance(line, TokenLine):
        for name in ("student", "teacher"):
            leading = row[name]
            row[name] = None if leading is None else {"ids": leading.ids, "probs": leading.probs}
    return row
