"""The tutoring term: lambda L_PTD of (12), over the tokens that the teacher read."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ptdpo.algo.gates import READ_GATES, EntropyFloor, GatedTokens, positions
from ptdpo.algo.objectives import ratio_weights, sampled_distillation, scheduled, standardised, tutoring_loss
from ptdpo.train.engine import Engine, MicroBatch
from ptdpo.train.method_settings import TutoringSettings
from ptdpo.train.step import OptimiserStep
from ptdpo.train.terms.credit import Credit, teacher_log_probs, was_read
from ptdpo.tutor.head import ScoreDetails, ScoredTokens

# Besides the divergence, for which there need be no support.
_LOGGED = ("divergence", "topk_overlap", "tail_mass/student", "tail_mass/teacher")


class TutoringTerm:
    """lambda * sum over F of D / (|F| + eps), (11) and (12); with ``use=advantage`` D is that of the sampled token.

    With ``use=reweight`` and ``use=shift`` there is no term: the policy's advantages are redistributed over tokens.
    """

    def __init__(self, engine: Engine, settings: TutoringSettings) -> None:
        self._engine, self.settings = engine, settings
        self.floor = None if settings.floor is None else EntropyFloor(settings.floor)
        self._credit = Credit(engine, settings, self._weight)

    def begin_step(self, micro_batches: Sequence[MicroBatch]) -> OptimiserStep:
        """Return what is known of an optimiser step before it is scored; a collective call.

        Args:
            micro_batches: all of this process that the step will train on.
        """
        step = self._credit.begin_step(micro_batches, OptimiserStep(self._count(micro_batches)))
        settings, processes = self.settings, self._engine.processes
        if settings.floor is None and not settings.gate.normalised and not settings.gate.reads_teacher_entropy:
            return step
        sums = torch.zeros(3, dtype=torch.float64)
        for micro in (one for one in micro_batches if any(record.reading.tokens for record in one.records)):
            tokens = self._read_tokens(micro)
            weights = settings.gate.weights(tokens) if settings.gate.kind in READ_GATES else None
            sums[0] += sum(record.reading.tokens for record in micro.records)
            sums[1] += 0.0 if weights is None else weights.double().sum().cpu()
            sums[2] += 0.0 if tokens.teacher_entropy is None else tokens.teacher_entropy.double().sum().cpu()
        tutored, weight, entropy = processes.sum(sums.to(processes.device)).tolist()
        if not tutored:
            return step
        if settings.gate.normalised:
            # Where all weights underflow, nothing is tutored.
            step.gate_scale = tutored / weight if weight > 0 else 0.0
        mean = entropy / tutored
        step.teacher_entropy = mean
        if self.floor is not None:
            step.is_open = self.floor.step(mean)
        return step

    def _count(self, micro_batches: Sequence[MicroBatch]) -> int:
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
        """Return whether the advantages of the micro-batch's responses become those of tokens."""
        return self.settings.use in ("reweight", "shift") and self._compares(micro)

    def token_advantages(self, micro: MicroBatch, advantages: Tensor, log_probs: Tensor, step: OptimiserStep) -> Tensor:
        """Return [B, T], the advantages of tokens, see ``Method.token_advantages``."""
        return self._credit.token_advantages(micro, advantages, log_probs, step)

    def loss(self, micro: MicroBatch, scored: ScoredTokens, step: OptimiserStep) -> Tensor | None:
        """Return the term of one micro-batch; ``None`` if nothing in it is tutored, or it counts elsewhere."""
        if micro.share == 0 or not self._compares(micro):
            return None
        details = self.details(micro, scored)
        assert details.divergence is not None
        step.sums.add(details)
        if self.settings.use in ("reweight", "shift") or not step.is_open:
            return None
        distance = self._gated(details.divergence, micro, scored, step)
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
        if step.teacher_entropy is not None:
            self._engine.log("tutored/teacher_entropy", step.teacher_entropy)
        if self.settings.floor is not None:
            self._engine.log("tutored/open", float(step.is_open))
        if step.moved is not None:
            self._engine.log("tutored/moved", step.moved / max(step.tutored_tokens, 1))

    def details(self, micro: MicroBatch, scored: ScoredTokens) -> ScoreDetails:
        """Return the scores with how far the micro-batch's tutored tokens are from the teacher, [n], if it read any."""
        if self.settings.use == "loss" or not self._compares(micro):
            return scored.details
        own, kind = scored.log_probs[micro.tutored], self.settings.sampled
        apart = sampled_distillation(own, teacher_log_probs(micro), kind, self.settings.most_sampled)
        return replace(scored.details, divergence=apart)

    def _gated(self, apart: Tensor, micro: MicroBatch, scored: ScoredTokens, step: OptimiserStep) -> Tensor:
        """Return [n], how far each tutored token is from the teacher, with its weight."""
        tutored, settings = micro.tutored, self.settings
        if settings.use == "advantage" and settings.standardised:
            levels = torch.zeros_like(scored.log_probs).masked_scatter(tutored, apart.detach())
            own = scored.log_probs[tutored]
            apart = standardised(levels, tutored)[tutored] * (own - own.detach()).exp()
        tokens = self._read_tokens(micro)
        if settings.gate.kind == "student_entropy":
            assert scored.details.entropy is not None
            tokens = tokens._replace(student_entropy=scored.details.entropy[tutored])
        if settings.gate.kind == "agreement":
            tokens = tokens._replace(log_ratio=teacher_log_probs(micro) - scored.log_probs[tutored])
        if settings.evidence_gate.strength:
            rollouts = [(record.reading.weight, record.reading.tokens) for record in micro.records]
            apart = apart * torch.cat([apart.new_full((count,), weight) for weight, count in rollouts])
        weights = settings.gate.weights(tokens)
        return apart if weights is None else apart * (weights.to(apart) * step.gate_scale)

    def _read_tokens(self, micro: MicroBatch) -> GatedTokens:
        """Return what gates know of the micro-batch's tutored tokens before they are scored."""
        tutored, gate = micro.tutored, self.settings.gate
        place = positions(micro.response_mask)[tutored] if gate.kind == "position" else None
        entropies = [record.reading.teacher.entropy for record in micro.records if record.reading.teacher is not None]
        known = [entropy.to(tutored.device) for entropy in entropies if entropy is not None]
        return GatedTokens(teacher_entropy=torch.cat(known) if known else None, position=place)

    def _compares(self, micro: MicroBatch) -> bool:
        """Return whether anything of the micro-batch is compared with the teacher."""
        return micro.teacher_head is not None and was_read(micro)

    def _weight(self) -> float:
        return scheduled(self.settings.weight, self.settings.schedule, self._engine.progress)
