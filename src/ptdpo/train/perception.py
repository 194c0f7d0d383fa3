"""PAPO: the policy should answer differently when it can hardly see."""

import random
from typing import Any

import torch
from torch import Tensor

from ptdpo.algo.objectives import mean_over_responses, perception
from ptdpo.data.images import blacken_patches
from ptdpo.tutor.context import images_of
from ptdpo.tutor.head import ScoredTokens

MASKED_PIXELS, MASKED_LOG_PROBS = "masked_pixels", "masked_log_probs"


class PerceptionTerms:
    """-gamma k3(pi‖pi_masked) + eta_1 H(pi) + eta_2 H(pi_masked), reduced as the policy loss is.

    With ``perception_masked=rollout`` pi_masked is scored once, when the rollouts are made and without gradient, as
    PAPO's code does; with ``current`` in every update and with gradient, as its paper has it.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def prepare(self, inputs: list[dict[str, Any]], output: dict[str, Any]) -> None:
        """Add to a batch of rollouts what the loss needs: pixels of masked images, or log-probabilities under them."""
        if "pixel_values" not in output:
            return
        output[MASKED_PIXELS] = self._masked_pixels(inputs, output["pixel_values"][:0])
        if self._trainer.args.perception_masked == "rollout":
            with torch.no_grad():
                rows = self._trainer.args.per_device_train_batch_size
                output[MASKED_LOG_PROBS] = self._scores(self._trainer.model, output, batch_size=rows)[0]
            del output[MASKED_PIXELS]

    def loss(self, model: Any, inputs: dict[str, Any], scored: ScoredTokens) -> Tensor:
        """Return the terms of one micro-batch, scaled as TRL scales its policy loss."""
        args, log_prob, entropy = self._trainer.args, scored.log_probs, scored.beside.entropy
        assert entropy is not None
        terms = args.perception_entropy_weight * entropy
        if MASKED_LOG_PROBS in inputs:
            terms = terms - args.perception_weight * self._gap(log_prob, inputs[MASKED_LOG_PROBS])
        elif MASKED_PIXELS in inputs:
            masked, masked_entropy = self._scores(model, inputs)
            assert masked_entropy is not None
            terms = terms - args.perception_weight * self._gap(log_prob, masked)
            terms = terms + args.masked_entropy_weight * masked_entropy
        return self._reduced(terms, inputs)

    def _gap(self, log_prob: Tensor, masked: Tensor) -> Tensor:
        return perception(log_prob, masked, estimator=self._trainer.args.perception_estimator)

    def _masked_pixels(self, inputs: list[dict[str, Any]], none: Tensor) -> list[Tensor]:
        """Return the pixels of each row's images with patches blackened, the same ones for a whole group."""
        trainer, args = self._trainer, self._trainer.args
        first = trainer.accelerator.process_index * len(inputs)
        found: dict[int, Tensor] = {}
        pixels = []
        for row, content in enumerate(inputs):
            group = (first + row) // trainer.num_generations
            if group not in found:
                rng = random.Random(f"{args.seed} {trainer.state.global_step} {group}")
                images = [
                    blacken_patches(image, share=args.perception_mask_share, patch=args.perception_patch, rng=rng)
                    for image in images_of(content)
                ]
                process = trainer.processing_class.image_processor
                pixels_of = process(images=images, return_tensors="pt")["pixel_values"].to(none) if images else none
                found[group] = pixels_of
            pixels.append(found[group])
        return pixels

    def _scores(self, model: Any, batch: dict[str, Any], batch_size: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Return log-probabilities and entropies [B, T] of the responses when the model sees the masked images."""
        given = {name: batch[name] for name in ("image_grid_thw", "num_images", "mm_token_type_ids") if name in batch}
        log_probs, entropies, _ = self._trainer._get_per_token_logps_and_entropies(
            model,
            torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
            torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
            batch["completion_ids"].size(1),
            batch_size=batch_size,
            compute_entropy=True,
            pixel_values=torch.cat(batch[MASKED_PIXELS]),
            **given,
        )
        return log_probs, entropies

    def _reduced(self, terms: Tensor, inputs: dict[str, Any]) -> Tensor:
        trainer, mask = self._trainer, inputs["completion_mask"]
        parts = trainer.current_gradient_accumulation_steps
        if trainer.args.loss_type == "grpo":
            return mean_over_responses(terms, mask) / parts
        tokens = inputs["num_items_in_batch"].clamp(min=1.0) * parts / trainer.args.steps_per_generation
        return (terms * mask).sum() / tokens * trainer.accelerator.num_processes
