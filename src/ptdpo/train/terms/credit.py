"""Advantages of tokens: what the teacher makes of the advantage of a response (RLSD, RLCSD). No term of the loss."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ptdpo.algo.objectives import evidence_weights, shifted, shifts
from ptdpo.algo.teacher_topk import concatenate
from ptdpo.train.engine import Engine, MicroBatch
from ptdpo.train.method_settings import TutoringSettings
from ptdpo.train.step import OptimiserStep


class Credit:
    """How much of an advantage each token of a response owes.

    Args:
        engine: for what the processes do together.
        settings: with ``use`` reweight or shift.
        weight: lambda, as it is scheduled.
    """

    def __init__(self, engine: Engine, settings: TutoringSettings, weight: Callable[[], float]) -> None:
        self._engine, self.settings, self._weight = engine, settings, weight

    def begin_step(self, micro_batches: Sequence[MicroBatch], step: OptimiserStep) -> OptimiserStep:
        """Return the step with how much moved and unmoved tokens weigh; a collective call if they have means apart.

        Args:
            micro_batches: all of this process that the step will train on.
            step: as it is known so far.
        """
        if self.settings.use != "shift" or not self.settings.shift.apart:
            return step
        processes = self._engine.processes
        counts = torch.zeros(2, dtype=torch.float64)
        for micro in micro_batches:
            if was_read(micro):
                is_moved = self._shifts(_evidence(micro)) != 0
                counts += torch.tensor([int(is_moved.sum()), int((~is_moved).sum())])
        moved, unmoved = processes.sum(counts.to(processes.device)).tolist()
        # The loss divides by these, whatever the step itself holds.
        divisor = float(micro_batches[0].step_tokens)
        scales = {"moved_scale": _over(divisor, moved), "unmoved_scale": _over(divisor, unmoved)}
        return replace(step, moved=moved, **scales)

    def token_advantages(self, micro: MicroBatch, advantages: Tensor, log_probs: Tensor, step: OptimiserStep) -> Tensor:
        """Return [B, T], the advantages of tokens, see ``Method.token_advantages``."""
        tutored, of_tokens = micro.tutored, advantages.unsqueeze(1).expand_as(log_probs).clone()
        own, evidence = of_tokens[tutored], self._against(micro, log_probs[tutored])
        if self.settings.use == "reweight":
            clip = self.settings.reweight_clip
            moved = own * evidence_weights(evidence, own, weight=self._weight(), clip=clip)
        else:
            shift = self._shifts(evidence)
            moved = shifted(own, shift) * torch.where(shift == 0, step.unmoved_scale, step.moved_scale)
        of_tokens[tutored] = moved.to(of_tokens.dtype)
        return of_tokens

    def _shifts(self, evidence: Tensor) -> Tensor:
        shift = self.settings.shift
        return shifts(evidence, weight=self._weight(), scale=shift.scale, least=shift.least)

    def _against(self, micro: MicroBatch, own: Tensor) -> Tensor:
        """Return [n], how much more the teacher expects tokens than what it is contrasted with, or else the policy."""
        return teacher_log_probs(micro) - own if self.settings.contrast == "none" else _evidence(micro)


def was_read(micro: MicroBatch) -> bool:
    """Return whether the teacher read any row of the micro-batch."""
    return any(record.reading.tokens for record in micro.records)


def teacher_log_probs(micro: MicroBatch) -> Tensor:
    """Return [n], log q of the sampled tokens that the teacher read."""
    assert micro.teacher_head is not None
    read = [record.reading.teacher for record in micro.records if record.reading.teacher is not None]
    sampled = micro.response_ids[micro.tutored].unsqueeze(-1)
    return concatenate(read).to(sampled.device).with_head(*micro.teacher_head).log_probs_at(sampled).squeeze(-1)


def _evidence(micro: MicroBatch) -> Tensor:
    known = [record.reading.evidence for record in micro.records if record.reading.evidence is not None]
    return torch.cat(known).to(micro.response_ids.device)


def _over(divisor: float, count: float) -> float:
    return divisor / count if count else 1.0
