"""PAPO: the policy should answer differently when it can hardly see."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from ptdpo.algo.objectives import mean_over_responses, perception
from ptdpo.data.images import blacken_patches
from ptdpo.train.engine import Engine, MaskedImages, MicroBatch, RolloutBatch
from ptdpo.train.method_settings import PerceptionSettings
from ptdpo.train.step import OptimiserStep
from ptdpo.tutor.context import images_of
from ptdpo.tutor.head import ScoredTokens


class PerceptionTerm:
    """-gamma k3(pi‖pi_masked) + eta_1 H(pi) + eta_2 H(pi_masked), reduced as the policy loss is.

    With ``masked=rollout`` pi_masked is scored once, when the rollouts are made and without gradient, as PAPO's code
    does; with ``current`` in every update and with gradient, as its paper has it.
    """

    def __init__(self, engine: Engine, settings: PerceptionSettings) -> None:
        self._engine, self.settings = engine, settings

    def prepare(self, batch: RolloutBatch) -> Sequence[MaskedImages | None]:
        """Return what the loss needs of each rollout: pixels of masked images, or log-probabilities under them."""
        if not batch.has_images:
            return [None] * len(batch.rows)
        pixels = self._masked_pixels(batch)
        if self.settings.masked == "current":
            return [MaskedImages(pixels=own) for own in pixels]
        with torch.no_grad():
            log_probs, _ = self._engine.scores(batch, pixels)
        return [MaskedImages(log_probs=row) for row in log_probs]

    def loss(self, micro: MicroBatch, scored: ScoredTokens, step: OptimiserStep) -> Tensor:
        """Return the terms of one micro-batch, scaled as the policy loss is."""
        settings, log_prob, entropy = self.settings, scored.log_probs, scored.details.entropy
        assert entropy is not None
        terms = settings.entropy_weight * entropy
        masked = [record.masked for record in micro.records if record.masked is not None]
        log_probs = [one.log_probs for one in masked if one.log_probs is not None]
        pixels = [one.pixels for one in masked if one.pixels is not None]
        if log_probs:
            terms = terms - settings.weight * self._gap(log_prob, torch.stack(log_probs))
        elif pixels:
            masked_log_prob, masked_entropy = self._engine.scores(micro, pixels)
            terms = terms - settings.weight * self._gap(log_prob, masked_log_prob)
            terms = terms + settings.masked_entropy_weight * masked_entropy
        return self._reduced(terms, micro) * micro.share

    def _gap(self, log_prob: Tensor, masked: Tensor) -> Tensor:
        return perception(log_prob, masked, estimator=self.settings.estimator)

    def _masked_pixels(self, batch: RolloutBatch) -> list[Tensor]:
        """Return the pixels of each row's images with patches blackened, the same ones for a whole group."""
        settings = self.settings
        groups = batch.groups.of_rows()
        first = {group: row for row, group in reversed(list(enumerate(groups)))}
        masked = {}
        for group, row in first.items():
            rng = random.Random(f"{settings.seed} {self._engine.step} {group}")
            masked[row] = [
                blacken_patches(image, share=settings.mask_share, patch=settings.patch, rng=rng)
                for image in images_of(batch.rows[row])
            ]
        pixels = self._engine.pixels(batch, masked)
        return [pixels[first[group]] for group in groups]

    def _reduced(self, terms: Tensor, micro: MicroBatch) -> Tensor:
        mask = micro.response_mask
        if self.settings.over == "responses":
            return mean_over_responses(terms, mask) / micro.parts
        return (terms * mask).sum() / micro.step_tokens * self._engine.processes.count
