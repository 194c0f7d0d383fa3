"""What the context of a teacher is contrasted with: a second thing that it reads along the same tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from ptdpo.algo.objectives import log_mean
from ptdpo.algo.teacher_topk import TeacherTopK
from ptdpo.data.contexts import Row
from ptdpo.data.prompts import Prompt
from ptdpo.text.thinking import last_said
from ptdpo.tutor.context import privileged_prompt
from ptdpo.tutor.groups import Groups
from ptdpo.tutor.processes import Processes
from ptdpo.tutor.teacher import Lesson, Teacher

Contrast = Literal["none", "failed_siblings", "question"]
# Contexts whose words introduce a response: a wrong one can stand in its place.
RESPONSES = ("sibling", "solution")


def contrasts_of(
    rows: Sequence[Row], context: str, contrast: Contrast, wrong: Sequence[Sequence[str]]
) -> list[list[Prompt]]:
    """Return for each rollout what the teacher reads besides its context; none where there is nothing to contrast.

    Args:
        rows: the rows of the data set, one per rollout.
        context: one of ``RESPONSES`` for ``failed_siblings``: in its words wrong responses are shown, because what two
            contexts have in common is to cancel.
        contrast: ``failed_siblings``, each by itself; ``question``, nothing besides.
        wrong: the texts of wrong siblings, rollout by rollout.
    """
    if contrast == "question":
        return [[row["prompt"]] for row in rows]
    shown = [[_in_the_words_of(context, row, text) for text in own] for row, own in zip(rows, wrong, strict=True)]
    return [[prompt for prompt in own if prompt is not None] for own in shown]


def wrong_texts(groups: Groups, texts: Sequence[str], most: int) -> list[list[str]]:
    """Return for each of this process's rollouts the texts of wrong siblings; ``texts`` are those of all processes."""
    return [[texts[row] for row in own] for own in groups.wrong_siblings(most)]


def _in_the_words_of(context: str, row: Row, response: str) -> Prompt | None:
    if context == "solution":
        row, response = {**row, "solution": last_said(response)}, ""
    return privileged_prompt(row, context, response)


def read_evidence(
    teacher: Teacher,
    lessons: Mapping[int, Lesson],
    read: Mapping[int, TeacherTopK],
    contrasts: Sequence[Sequence[Prompt]],
    processes: Processes,
    filler: Lesson,
) -> dict[int, Tensor]:
    """Return [n] for each row that was read: log q - log of the mean of q- over what its context is contrasted with.

    Args:
        teacher: reads.
        lessons: by row, each with at least one contrast.
        read: what the teacher left of them.
        contrasts: what else is shown, by row.
        processes: those that read at the same time.
        filler: what is read where another process has more to read.
    """
    others = [(row, replace(lesson, messages=prompt)) for row, lesson in lessons.items() for prompt in contrasts[row]]
    calls = processes.most(teacher.calls_needed(len(others)))
    if not calls:
        return {}
    left: dict[int, list[Tensor]] = {row: [] for row in lessons}
    found = teacher.log_probs([lesson for _, lesson in others], calls=calls, filler=filler)
    for (row, _), log_probs in zip(others, found, strict=True):
        left[row].append(log_probs)
    head = teacher.head()
    return {
        row: _expected(read[row].with_head(*head), lesson) - log_mean(torch.stack(left[row]))
        for row, lesson in lessons.items()
    }


def _expected(teacher: TeacherTopK, lesson: Lesson) -> Tensor:
    """Return [n], the teacher's log-probabilities of the tokens that the student wrote."""
    ids = lesson.response_ids if lesson.written is None else lesson.response_ids[lesson.written]
    return teacher.log_probs_at(ids.unsqueeze(-1)).squeeze(-1)
