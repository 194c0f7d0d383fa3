"""From a graded batch to what the teacher leaves along it: contexts, routing (8), rollouts drawn anew, lessons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ptdpo.data.contexts import Row, context_named
from ptdpo.data.teacher_images import CONTRAST
from ptdpo.train.engine import Engine, RolloutBatch
from ptdpo.train.method_settings import TutoringSettings
from ptdpo.train.rollouts.hint_choice import HintChoices, choose_hints
from ptdpo.train.rollouts.privileged import draw_privileged
from ptdpo.tutor.context import Shown, hint_levels, images_of, with_images
from ptdpo.tutor.contrast import contrasts_of, read_evidence, wrong_texts
from ptdpo.tutor.lessons import (
    Routed,
    contexts_of,
    make_lessons,
    read_lessons,
    route_rollouts,
    routing_reasons,
    sibling_texts,
)
from ptdpo.tutor.teacher import Lesson, Teacher, TeacherReading


@dataclass(frozen=True, slots=True)
class Tutored:
    """A batch of rollouts after the teacher.

    Attributes:
        readings: one per rollout.
        routed: which were to be tutored.
        replaced: as in ``Prepared``.
        reasons: why each is tutored or not, see ``routing_reasons``.
        levels: which of its hints the teacher read for a row, the vaguest being 1; nothing if the context is no list.
    """

    readings: Sequence[TeacherReading]
    routed: Routed
    replaced: Mapping[int, list[int]] | None
    reasons: Sequence[str]
    levels: Mapping[int, int] = field(default_factory=dict)


def tutor_rollouts(
    engine: Engine,
    settings: TutoringSettings,
    teacher: Teacher,
    batch: RolloutBatch,
    choices: HintChoices | None = None,
) -> Tutored:
    """Route a batch of rollouts (8) and let the teacher read those that are tutored.

    Args:
        engine: for what the processes do together.
        settings: context, route, and whose rollouts.
        teacher: reads the lessons.
        batch: the rollouts of this process.
        choices: which hints were chosen before, for a context that is adaptive.

    Raises:
        ValueError: if nobody says of some rollouts whether they are right.
    """
    _refuse_ungraded(batch)
    processes, rows = engine.processes, batch.rows
    contexts, contrasts = _shown(engine, settings, batch)
    own = [context is not None for context in contexts]
    has_context = torch.tensor(own, device=processes.device)
    routed = route_rollouts(
        batch.groups, processes.gather(has_context), threshold=settings.threshold, select=settings.select
    )
    engine.log("accuracy/tutored_groups", routed.group_accuracy)
    chosen, responses, replaced = routed.chosen, batch.responses, None
    levels: dict[int, int] = {}
    if choices is not None:
        levels = choose_hints(engine, choices, rows, chosen.nonzero().flatten().tolist())
        _show_levels(settings, rows, levels, contexts, contrasts)
    if settings.rollouts == "teacher":
        replaced = draw_privileged(engine, batch, contexts, chosen)
        chosen = torch.tensor([row in replaced for row in range(len(rows))], device=chosen.device)
        for row, ids in replaced.items():
            responses[row] = torch.tensor(ids, device=batch.response_ids.device)
    written = None if replaced is not None else batch.written
    lessons = make_lessons(chosen, contexts, responses, written, batch.turns)
    filler = Lesson(rows[0]["prompt"], images_of(rows[0]), batch.response_ids[0][:1])
    with engine.autocast():
        read = read_lessons(teacher, lessons, processes, filler)
        evidence = {}
        if contrasts is not None:
            evidence = read_evidence(teacher, lessons, read, contrasts, processes, filler)
    if settings.teacher_on_cpu:
        read = {row: record.to("cpu") for row, record in read.items()}
    _log(engine, list(lessons.values()))
    in_tutored_group = routed.in_tutored_group.tolist()
    weights = _weights(engine, settings, batch, evidence)
    readings = [
        TeacherReading(
            in_tutored_group[row], read.get(row), str(content.get("id", "")), evidence.get(row), weights[row]
        )
        for row, content in enumerate(rows)
    ]
    accuracy, groups = batch.groups.accuracy, batch.groups
    low = groups.mine((accuracy.mean(dim=1, keepdim=True) < settings.threshold).expand_as(accuracy))
    reasons = routing_reasons(routed, groups.mine(accuracy), own, low, lessons)
    return Tutored(readings, routed, replaced, reasons, levels)


def _refuse_ungraded(batch: RolloutBatch) -> None:
    accuracy = batch.groups.accuracy
    ungraded = int(accuracy.isnan().sum())
    if ungraded:
        raise ValueError(
            f"the reward {batch.reader!r}, from which routing reads who is right, returned None for {ungraded} of "
            f"{accuracy.numel()} rollouts: name another accuracy_reward, or pass accuracy=FUNCTION that grades all"
        )


def _shown(
    engine: Engine, settings: TutoringSettings, batch: RolloutBatch
) -> tuple[list[Shown | None], list[list[Shown]] | None]:
    """Return what the teacher reads for each rollout, and with what that is contrasted, if it is.

    A rollout that has nothing to be contrasted with has no context either. A collective call where the responses of a
    group are shown.
    """
    rows, groups = batch.rows, batch.groups
    reads_group = context_named(settings.context).needs_group
    texts = []
    if reads_group or settings.contrast == "failed_siblings":
        texts = engine.processes.gather_texts(engine.texts(batch.response_ids))
    siblings = sibling_texts(groups, texts) if reads_group else None
    contexts = contexts_of(rows, settings.context, siblings, settings.images)
    if settings.contrast == "none":
        return contexts, None
    wrong = wrong_texts(groups, texts, settings.contrast_siblings) if texts else []
    more = {"wrong": wrong, "siblings": siblings, "images": settings.images}
    contrasts = contrasts_of(rows, settings.context, settings.contrast, **more)
    return [context if own else None for context, own in zip(contexts, contrasts, strict=True)], contrasts


def _show_levels(
    settings: TutoringSettings,
    rows: Sequence[Row],
    levels: Mapping[int, int],
    contexts: list[Shown | None],
    contrasts: list[list[Shown]] | None,
) -> None:
    """Let the teacher read the hints of these levels; where images are contrasted, with both kinds of them."""
    for row, level in levels.items():
        prompt = hint_levels(rows[row])[level - 1]
        contexts[row] = with_images(rows[row], prompt, images=settings.images)
        if contrasts is not None and settings.contrast == "images":
            # Under another hint the evidence would be that of the words.
            other = with_images(rows[row], prompt, images=settings.images, column=CONTRAST)
            contrasts[row] = [] if other is None else [other]


def _weights(
    engine: Engine, settings: TutoringSettings, batch: RolloutBatch, evidence: Mapping[int, Tensor]
) -> list[float]:
    """Return the weight of each rollout by its evidence; a collective call, as groups may be spread over processes."""
    gate, rows = settings.evidence_gate, len(batch.rows)
    if not gate.strength:
        return [1.0] * rows
    scores = torch.full((rows,), torch.nan, device=engine.processes.device)
    for row, own in evidence.items():
        scores[row] = gate.score(own)
    everywhere = engine.processes.gather(scores).view_as(batch.groups.accuracy)
    weights = gate.weights(everywhere)
    scored = ~everywhere.isnan()
    if bool(scored.any()):
        engine.log("tutored/evidence", everywhere[scored].mean().item())
        engine.log("tutored/without_evidence", (weights[scored] == 0).float().mean().item())
    return batch.groups.mine(weights).tolist()


def _log(engine: Engine, lessons: Sequence[Lesson]) -> None:
    tokens = sum(lesson.tokens for lesson in lessons)
    counts = torch.tensor([len(lessons), tokens], device=engine.processes.device, dtype=torch.float32)
    rollouts, tokens = engine.processes.sum(counts).tolist()
    engine.log("tutored/rollouts", rollouts)
    engine.log("tutored/tokens", tokens)
