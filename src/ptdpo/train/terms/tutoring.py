"""The tutoring term: lambda L_PTD of (12), over the tokens that the teacher read."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ptdpo.algo.objectives import evidence_weights, ratio_weights, sampled_distillation, scheduled, tutoring_loss
from ptdpo.algo.teacher_topk import concatenate
from ptdpo.train.engine import Engine, MicroBatch
from ptdpo.train.method_settings import TutoringSettings
from ptdpo.train.step import OptimiserStep
from ptdpo.tutor.head import ScoreDetails, ScoredTokens

# Besides the divergence, for which there need be no support.
_LOGGED = ("divergence", "topk_overlap", "tail_mass/student", "tail_mass/teacher")


class TutoringTerm:
    """lambda * sum over F of D / (|F| + eps), (11) and (12); with ``use=advantage`` D is that of the sampled token.

    With ``use=reweight`` there is no term: the policy's advantages are redistributed over tokens.
    """

    def __init__(self, engine: Engine, settings: TutoringSettings) -> None:
        self._engine, self.settings = engine, settings

    def count(self, micro_batches: Sequence[MicroBatch]) -> int:
        """Return |F| of (11) for the optimiser step that these micro-batches of this process are a part of."""
        local = sum(record.reading.tokens for micro in micro_batches for record in micro.records)
        if self.settings.mean == "all":
            local = sum(int(micro.response_mask.sum()) for micro in micro_batches)
        processes = self._engine.processes
        return int(processes.sum(torch.tensor(local, device=processes.device)))

    def rows_without_kl(self, micro: MicroBatch) -> Tensor | None:
        """Return [B] bool, the rows without a reference KL: with ``keep_kl=False`` those of tutored groups."""
        if self.settings.keep_kl:
            return None
        rows = [record.reading.in_tutored_group for record in micro.records]
        return torch.tensor(rows, device=micro.response_ids.device)

    def reweights(self, micro: MicroBatch) -> bool:
        """Return whether the teacher redistributes the advantages of responses over the micro-batch's tokens."""
        return self.settings.use == "reweight" and _was_read(micro)

    def token_advantages(self, micro: MicroBatch, advantages: Tensor, log_probs: Tensor) -> Tensor:
        """Return [B, T], the advantages of tokens, see ``Method.token_advantages``."""
        tutored, of_tokens = micro.tutored, advantages.unsqueeze(1).expand_as(log_probs).clone()
        own = of_tokens[tutored]
        of_tokens[tutored] = own * evidence_weights(
            _teacher_log_probs(micro) - log_probs[tutored],
            own,
            weight=self._weight(),
            clip=self.settings.reweight_clip,
        )
        return of_tokens

    def loss(self, micro: MicroBatch, scored: ScoredTokens, step: OptimiserStep) -> Tensor | None:
        """Return the term of one micro-batch; ``None`` if nothing in it is tutored, or it counts elsewhere."""
        if micro.share == 0 or not _was_read(micro):
            return None
        details = self.details(micro, scored)
        assert details.divergence is not None
        step.sums.add(details)
        if self.settings.use == "reweight":
            return None
        distance = details.divergence
        if self.settings.ratio_clip is not None and micro.old_log_probs is not None:
            tutored = micro.tutored
            old, clip = micro.old_log_probs[tutored], self.settings.ratio_clip
            distance = distance * ratio_weights(scored.log_probs[tutored], old, clip)
        share = tutoring_loss(distance, step.tutored_tokens, processes=self._engine.processes.count)
        return self._weight() * share

    def log(self, step: OptimiserStep) -> None:
        """Log means over the tokens that the optimiser step tutored."""
        processes = self._engine.processes
        sums = processes.sum(step.sums.as_tensor(processes.device))
        tokens = max(sums[0].item(), 1.0)
        names = _LOGGED if self.settings.compares_supports else _LOGGED[:1]
        for name, value in zip(names, sums[1:].tolist(), strict=False):
            self._engine.log(name, value / tokens)

    def details(self, micro: MicroBatch, scored: ScoredTokens) -> ScoreDetails:
        """Return the scores with how far the micro-batch's tutored tokens are from the teacher, [n], if it read any."""
        if self.settings.use == "loss" or not _was_read(micro):
            return scored.details
        apart = sampled_distillation(scored.log_probs[micro.tutored], _teacher_log_probs(micro))
        return replace(scored.details, divergence=apart)

    def _weight(self) -> float:
        return scheduled(self.settings.weight, self.settings.schedule, self._engine.progress)


def _was_read(micro: MicroBatch) -> bool:
    return micro.teacher_head is not None and any(record.reading.tokens for record in micro.records)


def _teacher_log_probs(micro: MicroBatch) -> Tensor:
    """Return [n], log q of the sampled tokens that the teacher read."""
    assert micro.teacher_head is not None
    read = [record.reading.teacher for record in micro.records if record.reading.teacher is not None]
    sampled = micro.response_ids[micro.tutored].unsqueeze(-1)
    return concatenate(read).to(sampled.device).with_head(*micro.teacher_head).log_probs_at(sampled).squeeze(-1)
