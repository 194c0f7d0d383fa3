"""The seam's engine, over a TRL trainer: the only reader of what the trainer keeps to itself, besides its subclass."""

import asyncio
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from trl import GRPOTrainer
from trl.trainer.utils import split_pixel_values_by_grid

from ptdpo.data.contexts import Row
from ptdpo.data.prompts import Prompt, attach_images
from ptdpo.data.rendering import images_in
from ptdpo.models.family import IMAGE_FIELDS, PIXELS, TOKEN_TYPES
from ptdpo.runlog import RecordWriter
from ptdpo.runlog.lines import Line
from ptdpo.train.engine import MicroBatch, RolloutBatch, Rollouts
from ptdpo.train.metrics import PartsClock
from ptdpo.train.settings import PTDConfig
from ptdpo.train.trl.accuracy import AccuracySource
from ptdpo.train.trl.batches import TrlContent, records_of, written_by_policy
from ptdpo.train.trl.processes import AccelerateProcesses
from ptdpo.train.trl.rollouts import TrlRollouts
from ptdpo.train.trl.token_batches import select_rows
from ptdpo.train.trl.unlogged import metrics_kept
from ptdpo.tutor.context import images_of
from ptdpo.tutor.groups import Groups
from ptdpo.tutor.teacher import Turns


class TrlEngine:
    """``ptdpo.train.engine.Engine`` over TRL's trainer.

    Args:
        trainer: set up by TRL.
        args: its settings.
        right: which of its reward functions says who is right.
        clock: where timed parts count.
    """

    def __init__(self, trainer: GRPOTrainer, args: PTDConfig, right: AccuracySource, clock: PartsClock) -> None:
        self._trainer, self._args, self._clock = trainer, args, clock
        self.right = right
        self.processes = AccelerateProcesses(trainer.accelerator)
        self.records = RecordWriter(str(args.output_dir), self.processes.index)

    # -- where training stands ---------------------------------------------------------------------------------

    @property
    def training(self) -> bool:
        """Return whether it trains, not evaluates."""
        return self._trainer.model is not None and self._trainer.model.training

    @property
    def generations(self) -> int:
        """Return G, rollouts per group, in training or in evaluation."""
        trainer = self._trainer
        generations = trainer.num_generations if self.training else trainer.num_generations_eval
        assert generations is not None
        return generations

    @property
    def step(self) -> int:
        """Return how many optimiser steps were made."""
        return self._trainer.state.global_step

    @property
    def micro_step(self) -> int:
        """Return which micro-batch of the optimiser step comes next, from 0."""
        return self._trainer._step % self._args.gradient_accumulation_steps

    @property
    def progress(self) -> float:
        """Return the share of the run that is done."""
        return self._trainer.state.global_step / max(self._trainer.state.max_steps, 1)

    @property
    def rows(self) -> Sequence[Row]:
        """Return the training data."""
        return cast(Sequence[Row], self._trainer.train_dataset)

    # -- rollouts ----------------------------------------------------------------------------------------------

    def generate(self, rows: Sequence[Row], prompts: Sequence[Prompt], *, logged: bool = True) -> TrlRollouts:
        """Sample one response per row from the policy; a collective call on all processes."""
        images = [images_of(row) for row in rows]
        if any(images):
            prompts = [
                # A prompt that holds its images already is complete.
                prompt if isinstance(prompt, str) or images_in(prompt) else attach_images(prompt, own)
                for prompt, own in zip(prompts, images, strict=True)
            ]
        # Logged response lengths are of the policy's task.
        with nullcontext() if logged else metrics_kept(self._trainer, "completions/"):
            return TrlRollouts(*self._trainer._generate(list(prompts)))

    def accuracy(self, rows: Sequence[Row], rollouts: Rollouts) -> list[float]:
        """Return 0 or 1 per rollout, by the reward function that routing reads; NaN where it returns ``None``.

        What it logs is dropped: TRL calls it again for the rollouts that are kept.
        """
        assert isinstance(rollouts, TrlRollouts)
        trainer = self._trainer
        columns = {key: [row[key] for row in rows] for key in rows[0] if key not in _NOT_FOR_REWARDS}
        reward = cast(Callable[..., Any], trainer.reward_funcs[self.right.column])
        accuracy = reward(
            prompts=[row["prompt"] for row in rows],
            completions=rollouts.completions,
            completion_ids=rollouts.response_ids,
            trainer_state=trainer.state,
            log_extra=_drop,
            log_metric=_drop,
            **columns,
        )
        if inspect.iscoroutine(accuracy):
            accuracy = asyncio.run_coroutine_threadsafe(accuracy, trainer.async_loop).result()
        values = torch.tensor([math.nan if value is None else value for value in accuracy], dtype=torch.float32)
        return self.right.of(values).tolist()

    def texts(self, response_ids: Tensor) -> list[str]:
        """Return responses [B, T] as texts, without special tokens."""
        return self._trainer._tokenizer.batch_decode(response_ids, skip_special_tokens=True)

    def token(self, token_id: int) -> str:
        """Return one token as text."""
        return str(self._trainer._tokenizer.decode([token_id]))

    # -- batches -----------------------------------------------------------------------------------------------

    def rollout_batch(
        self,
        rows: Sequence[Row],
        columns: dict[str, Any],
        accuracy: Tensor,
        rewards: Tensor,
        turns: Sequence[Turns] | None = None,
    ) -> RolloutBatch:
        """Return what TRL made of the rows and their rollouts.

        Args:
            rows: of this process.
            columns: TRL's batch.
            accuracy: [N], of all processes' rollouts.
            rewards: [N, functions], of them too.
            turns: what else the rollouts have of several turns.
        """
        groups = Groups(accuracy.view(-1, self.generations), len(rows), self.processes.index)
        weights = self._trainer.reward_weights.to(rewards.device)
        weighted = (rewards * weights).nansum(dim=1).view_as(groups.accuracy)
        return RolloutBatch(
            rows,
            groups,
            columns["completion_ids"],
            written_by_policy(columns),
            columns["advantages"],
            PIXELS in columns,
            groups.mine(weighted),
            self.right.name,
            TrlContent(columns, self._trainer.model, self._args.per_device_train_batch_size),
            columns["completion_mask"].bool() if "tool_mask" in columns else None,
            turns,
        )

    def micro_batch(self, columns: dict[str, Any], model: Any, share: float = 1.0) -> MicroBatch:
        """Return a micro-batch of TRL's, or a part of it; ``model`` is the one in training, wrapped."""
        parts = self._trainer.current_gradient_accumulation_steps
        assert self._args.steps_per_generation is not None
        return MicroBatch(
            records=records_of(columns),
            response_ids=columns["completion_ids"],
            response_mask=written_by_policy(columns),
            old_log_probs=columns.get("old_per_token_logps"),
            parts=parts,
            share=share,
            step_tokens=columns["num_items_in_batch"].clamp(min=1.0) * parts / self._args.steps_per_generation,
            content=TrlContent(columns, model),
        )

    def micro_batches(self) -> list[MicroBatch]:
        """Return the micro-batches of the optimiser step that begins, out of TRL's buffer."""
        trainer, per_generation = self._trainer, self._args.steps_per_generation
        assert trainer._buffered_inputs is not None
        assert per_generation is not None
        first = trainer._step % per_generation
        window: list[Any] = trainer._buffered_inputs[first : first + trainer.current_gradient_accumulation_steps]
        return [self.micro_batch(columns, trainer.model) for columns in window]

    def pixels(self, batch: RolloutBatch, images: Mapping[int, Sequence[Any]]) -> dict[int, Tensor]:
        """Return the images of some rows as the model reads them, in the layout of the batch."""
        columns = select_rows(_content(batch).columns, list(images))
        processor: Any = self._trainer.processing_class
        settings = {**getattr(processor, "images_kwargs", {}), "return_tensors": "pt"}
        pixels = processor.image_processor(images=[list(own) for own in images.values()], **settings)[PIXELS]
        split = split_pixel_values_by_grid({**columns, PIXELS: pixels.to(columns[PIXELS])})[PIXELS]
        # One entry per row of the batch, padded, is how some families keep images: TRL leaves those whole.
        parts = split if isinstance(split, list) else split.split(1)
        return dict(zip(images, parts, strict=True))

    def scores(self, batch: RolloutBatch | MicroBatch, pixels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and entropies [B, T] of the responses when the policy sees other pixels."""
        content = _content(batch)
        columns = content.columns
        given = {name: columns[name] for name in _IMAGE_COLUMNS if name in columns}
        log_probs, entropies, _ = self._trainer._get_per_token_logps_and_entropies(
            content.model,
            torch.cat([columns["prompt_ids"], columns["completion_ids"]], dim=1),
            torch.cat([columns["prompt_mask"], columns["completion_mask"]], dim=1),
            columns["completion_ids"].size(1),
            batch_size=content.rows_at_once,
            compute_entropy=True,
            **given,
            **{PIXELS: torch.cat(list(pixels))},
        )
        return log_probs, entropies

    # -- surroundings ------------------------------------------------------------------------------------------

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the precision in which models run."""
        return self._trainer.accelerator.autocast()

    def timed(self, part: str) -> AbstractContextManager[Any]:
        """Return a context whose seconds are logged under ``part``."""
        return self._clock(part)

    def log(self, name: str, value: float) -> None:
        """Log a number that is the same on all processes."""
        self._trainer._metrics["train" if self.training else "eval"][name].append(value)

    def record(self, lines: Sequence[Line]) -> None:
        """Append lines to the records of the run."""
        self.records.write(lines)

    def keep_images(self, images: Sequence[Any]) -> tuple[str, ...]:
        """Keep images with the records; returns their file names."""
        return self.records.keep_images(images)


_NOT_FOR_REWARDS = ("prompt", "completion", "completion_ids")
# What of a batch's images and positions stays when their pixels are exchanged.
_IMAGE_COLUMNS = {*IMAGE_FIELDS, *TOKEN_TYPES, "num_images", "num_tiles"} - {PIXELS}


def _content(batch: RolloutBatch | MicroBatch) -> TrlContent:
    assert isinstance(batch.content, TrlContent)
    return batch.content


def _drop(*_: Any) -> None:
    """Stand in for TRL's ``log_extra`` and ``log_metric``."""
