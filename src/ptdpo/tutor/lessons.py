"""From a batch of rollouts to lessons: which are tutored (8), what the teacher is shown, what it leaves."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from ptdpo.algo.routing import Select, route
from ptdpo.algo.teacher_topk import TeacherTopK
from ptdpo.data.contexts import Row
from ptdpo.data.teacher_images import ImagesShown
from ptdpo.tutor.context import Shown, shown_to_teacher
from ptdpo.tutor.groups import Groups
from ptdpo.tutor.processes import Processes
from ptdpo.tutor.teacher import Lesson, Teacher, Turns


@dataclass(frozen=True, slots=True)
class Routed:
    """Which of this process's rollouts are tutored.

    Attributes:
        chosen: [rows], those that are.
        in_tutored_group: [rows], those of a group in which any is.
        group_accuracy: mean accuracy of such groups over all processes; 0 if there are none.
    """

    chosen: Bool[Tensor, " rows"]
    in_tutored_group: Bool[Tensor, " rows"]
    group_accuracy: float


def contexts_of(
    rows: Sequence[Row],
    context: str,
    siblings: Sequence[str | None] | None = None,
    images: ImagesShown = "question",
) -> list[Shown | None]:
    """Return what the teacher would read for each rollout; ``None`` where its row lacks it.

    Args:
        rows: the rows of the data set, one per rollout.
        context: what the teacher is shown.
        siblings: for each rollout the text of a right one of its group, for context ``sibling``.
        images: which it sees.
    """
    given = siblings or [None] * len(rows)
    return [shown_to_teacher(row, context, text, images=images) for row, text in zip(rows, given, strict=True)]


def sibling_texts(groups: Groups, texts: Sequence[str]) -> list[str | None]:
    """Return for each of this process's rollouts the text of a right sibling; ``texts`` are those of all processes."""
    return [None if row is None else texts[row] for row in groups.right_siblings()]


def route_rollouts(groups: Groups, has_context: Bool[Tensor, " all"], *, threshold: float, select: Select) -> Routed:
    """Return which rollouts are tutored: those that (8) chooses and for which the teacher has something to read.

    Args:
        groups: the rollouts of all processes.
        has_context: for each of them, whether the teacher has.
        threshold: tau.
        select: which of an activated group, see ``ptdpo.algo.routing.route``.
    """
    accuracy = groups.accuracy
    whole = torch.ones((*accuracy.shape, 1), device=accuracy.device)
    chosen = route(accuracy, whole, threshold=threshold, select=select).squeeze(-1)
    chosen &= has_context.view_as(chosen)
    active = chosen.any(dim=1)
    reached = accuracy[active]
    return Routed(
        groups.mine(chosen),
        groups.mine(active.unsqueeze(1).expand_as(chosen)),
        reached.mean().item() if reached.numel() else 0.0,
    )


def routing_reasons(
    routed: Routed, accuracy: Tensor, has_context: Sequence[bool], below_threshold: Tensor, read: Collection[int]
) -> list[str]:
    """Return for each of this process's rollouts why it is tutored or not; the words are those of ``RolloutLine``.

    Args:
        routed: which were chosen.
        accuracy: [rows].
        has_context: for each, whether the teacher has something to read.
        below_threshold: [rows], whether its group is.
        read: the rows that the teacher reads.
    """
    reasons = []
    chosen, right, low = routed.chosen.tolist(), (accuracy == 1).tolist(), below_threshold.tolist()
    for row, context in enumerate(has_context):
        if row in read:
            reasons.append("tutored")
        elif chosen[row]:
            reasons.append("nothing to read")
        elif right[row]:
            reasons.append("right")
        elif not low[row]:
            reasons.append("threshold")
        else:
            reasons.append("not selected" if context else "no context")
    return reasons


def make_lessons(
    chosen: Bool[Tensor, " rows"],
    contexts: Sequence[Shown | None],
    responses: Sequence[Tensor],
    written: Sequence[Tensor] | None = None,
    turns: Sequence[Turns] | None = None,
) -> dict[int, Lesson]:
    """Return a lesson for each chosen rollout, by its row.

    One in which the policy wrote nothing, or whose turns cannot be read, is none.

    Args:
        chosen: the rollouts that are tutored.
        contexts: what the teacher reads for each rollout.
        responses: the ids of each response, without padding.
        written: which of them the policy wrote; ``None``: all.
        turns: what else each has of several turns; ``None``: nothing.
    """
    lessons = {}
    for row in torch.nonzero(chosen).flatten().tolist():
        context = contexts[row]
        assert context is not None, "a rollout without a context is never routed"
        own = None if written is None else written[row]
        others = Turns() if turns is None else turns[row]
        if len(responses[row]) and (own is None or bool(own.any())) and others.images is not None:
            lessons[row] = Lesson(context.prompt, context.images, responses[row], own, others)
    return lessons


def read_lessons(
    teacher: Teacher, lessons: Mapping[int, Lesson], processes: Processes, filler: Lesson
) -> dict[int, TeacherTopK]:
    """Let the teacher read; returns what it left, by row. Every process makes the same number of forwards.

    Args:
        teacher: reads.
        lessons: by row.
        processes: those that read at the same time.
        filler: what is read where another process has more to read.
    """
    calls = processes.most(teacher.calls_needed(len(lessons)))
    records = teacher.read(list(lessons.values()), calls=calls, filler=filler)
    return dict(zip(lessons, records, strict=True))
