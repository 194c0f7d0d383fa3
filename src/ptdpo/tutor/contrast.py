"""What the context of a teacher is contrasted with: a second thing that it reads along the same tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from ptdpo.algo.objectives import log_mean
from ptdpo.algo.teacher_topk import TeacherTopK
from ptdpo.data.contexts import Row
from ptdpo.data.teacher_images import CONTRAST, ImagesShown
from ptdpo.text.thinking import last_said
from ptdpo.tutor.context import Shown, images_of, shown_to_teacher
from ptdpo.tutor.groups import Groups
from ptdpo.tutor.processes import Processes
from ptdpo.tutor.teacher import Lesson, Teacher

Contrast = Literal["none", "failed_siblings", "question", "images"]


def contrasts_of(
    rows: Sequence[Row],
    context: str,
    contrast: Contrast,
    *,
    wrong: Sequence[Sequence[str]] = (),
    siblings: Sequence[str | None] | None = None,
    images: ImagesShown = "question",
) -> list[list[Shown]]:
    """Return for each rollout what the teacher reads besides its context; none where there is nothing to contrast.

    Args:
        rows: the rows of the data set, one per rollout.
        context: one of ``response_contexts`` for ``failed_siblings``: in its words wrong responses are shown, because
            what two contexts have in common is to cancel.
        contrast: ``failed_siblings``, each by itself; ``question``, nothing besides, and its own images; ``images``,
            the same with the row's ``contrast_images`` in the place of its ``teacher_images``.
        wrong: the texts of wrong siblings, rollout by rollout.
        siblings: that of a right one, for ``images``.
        images: which the teacher sees.
    """
    if contrast == "question":
        return [[Shown(row["prompt"], images_of(row))] for row in rows]
    if contrast == "images":
        right = siblings or [None] * len(rows)
        pairs = zip(rows, right, strict=True)
        found = [[shown_to_teacher(row, context, text, images=images, column=CONTRAST)] for row, text in pairs]
    else:
        pairs = zip(rows, wrong, strict=True)
        found = [[_in_the_words_of(context, row, text, images) for text in own] for row, own in pairs]
    return [[shown for shown in own if shown is not None] for own in found]


def wrong_texts(groups: Groups, texts: Sequence[str], most: int) -> list[list[str]]:
    """Return for each of this process's rollouts the texts of wrong siblings; ``texts`` are those of all processes."""
    return [[texts[row] for row in own] for own in groups.wrong_siblings(most)]


def _in_the_words_of(context: str, row: Row, response: str, images: ImagesShown) -> Shown | None:
    if context == "solution":
        row, response = {**row, "solution": last_said(response)}, ""
    return shown_to_teacher(row, context, response, images=images)


def read_evidence(
    teacher: Teacher,
    lessons: Mapping[int, Lesson],
    read: Mapping[int, TeacherTopK],
    contrasts: Sequence[Sequence[Shown]],
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
    others = [
        (row, replace(lesson, messages=shown.prompt, images=shown.images))
        for row, lesson in lessons.items()
        for shown in contrasts[row]
    ]
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
