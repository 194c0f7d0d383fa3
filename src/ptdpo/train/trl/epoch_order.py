"""The order of problems after a resume: that of the epoch which the run is in, not that of the first."""

from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.utils import RepeatSampler


class EpochOrder(TrainerCallback):
    """Brings a fresh sampler to the epoch in which a checkpoint was saved.

    TRL's sampler draws the order of epoch e as the e-th permutation of its generator, and a resumed run would begin
    with the first again.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any
    ) -> None:
        """Draw the orders of the epochs that are over."""
        loader: Any = rest.get("train_dataloader")
        sampler = _sampler(loader)
        if sampler is None or state.global_step == 0:
            return
        batches, accumulated = len(loader), args.gradient_accumulation_steps
        epochs = state.global_step // max(-(-batches // accumulated), 1)
        if isinstance(sampler, RepeatSampler):
            for _ in range(epochs if sampler.shuffle else 0):
                torch.randperm(sampler.num_samples, generator=sampler.generator)
        elif hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epochs)


def _sampler(loader: Any) -> Any:
    """Return what orders the rows of a loader, below the wrappers that part batches among processes."""
    batches: Any = getattr(loader, "batch_sampler", None)
    while hasattr(batches, "batch_sampler"):
        batches = batches.batch_sampler
    return getattr(batches, "sampler", None)
