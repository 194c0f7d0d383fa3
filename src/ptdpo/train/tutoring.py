"""Which rollouts are tutored, and what the teacher leaves for each of them."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from torch import Tensor

from ptdpo.algo.routing import route
from ptdpo.algo.teacher_topk import TeacherTopK
from ptdpo.data.contexts import context_named
from ptdpo.data.prompts import Prompt
from ptdpo.train.privileged_rollouts import exchange_rollouts
from ptdpo.tutor.context import images_of, privileged_prompt, right_siblings
from ptdpo.tutor.teacher import Lesson, Teacher, Tutoring


class Tutor:
    """Routes a batch of rollouts (8) and lets the teacher read those that are tutored.

    Args:
        trainer: the trainer, set up.
        teacher: reads the lessons.
    """

    def __init__(self, trainer: Any, teacher: Teacher) -> None:
        self._trainer, self._teacher = trainer, teacher

    def __call__(self, inputs: list[dict[str, Any]], output: dict[str, Any], accuracy: Tensor) -> list[Tutoring]:
        """Return one record per rollout of this process.

        Args:
            inputs: the rows of the data set, one per rollout.
            output: the rollouts as TRL batches them; with ``tutoring_rollouts=teacher`` some are exchanged in place.
            accuracy: 0 or 1 for the rollouts of all processes, in process order.
        """
        contexts = self._contexts(inputs, output, accuracy)
        has_context = torch.tensor([context is not None for context in contexts], device=accuracy.device)
        chosen, grouped = self._route(accuracy, cast(Tensor, self._trainer.accelerator.gather(has_context)))
        if self._trainer.args.tutoring_rollouts == "teacher":
            chosen &= exchange_rollouts(self._trainer, inputs, output, contexts, chosen)
        mask = output["completion_mask"]
        chosen &= mask.any(dim=1)
        lessons = {
            row: Lesson(contexts[row] or [], images_of(inputs[row]), output["completion_ids"][row][keep])
            for row, keep in enumerate(mask.bool())
            if chosen[row]
        }
        records = dict(zip(lessons, self._read(list(lessons.values()), inputs, output), strict=True))
        self._log(lessons, mask)
        return [
            Tutoring(bool(grouped[row]), records.get(row), str(inputs[row].get("id", ""))) for row in range(len(inputs))
        ]

    def _contexts(self, inputs: list[dict[str, Any]], output: dict[str, Any], accuracy: Tensor) -> list[Prompt | None]:
        """Return what the teacher would read for each of this process's rollouts."""
        trainer = self._trainer
        kind = trainer.args.tutoring_context
        siblings: list[str | None] = [None] * len(inputs)
        if context_named(kind).needs_group:
            responses = trainer._tokenizer.batch_decode(output["completion_ids"], skip_special_tokens=True)
            gathered = gather_object(responses)
            first = trainer.accelerator.process_index * len(inputs)
            chosen = right_siblings(accuracy.tolist(), trainer.num_generations)[first : first + len(inputs)]
            siblings = [None if row is None else gathered[row] for row in chosen]
        return [privileged_prompt(row, kind, sibling) for row, sibling in zip(inputs, siblings, strict=True)]

    def _route(self, accuracy: Tensor, has_context: Tensor) -> tuple[Tensor, Tensor]:
        """Return which of this process's rollouts are tutored, and which share a group with one that is.

        Groups may be spread over processes, so routing sees the rollouts of all of them.
        """
        trainer = self._trainer
        accuracy = accuracy.view(-1, trainer.num_generations)
        whole = torch.ones((*accuracy.shape, 1), device=accuracy.device)
        threshold, select = trainer.args.tutoring_threshold, trainer.args.tutoring_select
        chosen = route(accuracy, whole, threshold=threshold, select=select).squeeze(-1)
        chosen &= has_context.view_as(chosen)
        grouped = chosen.any(dim=1, keepdim=True).expand_as(chosen)
        active = accuracy[chosen.any(dim=1)]
        trainer._metrics["train"]["accuracy/tutored_groups"].append(active.mean().item() if active.numel() else 0.0)
        rows = chosen.numel() // trainer.accelerator.num_processes
        mine = slice(trainer.accelerator.process_index * rows, (trainer.accelerator.process_index + 1) * rows)
        return chosen.flatten()[mine].clone(), grouped.flatten()[mine].clone()

    def _read(self, lessons: Sequence[Lesson], inputs: Any, output: dict[str, Any]) -> list[TeacherTopK]:
        """Let the teacher read; every process makes the same number of forwards."""
        trainer = self._trainer
        needed = torch.tensor([self._teacher.calls_needed(len(lessons))], device=trainer.accelerator.device)
        calls = int(cast(Tensor, trainer.accelerator.gather(needed)).max())
        filler = Lesson(inputs[0]["prompt"], images_of(inputs[0]), output["completion_ids"][0][:1])
        with trainer.accelerator.autocast():
            records = self._teacher.read(lessons, calls=calls, filler=filler)
        return [record.to("cpu") for record in records] if trainer.args.teacher_on_cpu else records

    def _log(self, lessons: dict[int, Lesson], mask: Tensor) -> None:
        trainer = self._trainer
        tokens = sum(len(lesson.response_ids) for lesson in lessons.values())
        local = torch.tensor([len(lessons), tokens], device=mask.device, dtype=torch.float32)
        rollouts, tokens = cast(Tensor, trainer.accelerator.reduce(local, reduction="sum")).tolist()
        trainer._metrics["train"]["tutored/rollouts"].append(rollouts)
        trainer._metrics["train"]["tutored/tokens"].append(tokens)
