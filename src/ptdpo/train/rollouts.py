"""Rollouts before TRL batches them: one entry per row, so that rows can be chosen and replaced."""

import asyncio
import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

from ptdpo.data.prompts import Prompt, attach_images
from ptdpo.tutor.context import images_of


@dataclass(frozen=True, slots=True)
class Rollouts:
    """What TRL's ``_generate`` returns, in its order; each field has one entry per row, or is ``None`` or empty."""

    prompt_ids: list[list[int]]
    completion_ids: list[list[int]]
    tool_mask: list[Any] | None
    completions: list[Any]
    log_probs: list[Any] | None
    extra_fields: dict[str, Any]
    images: list[Any] | None
    tool_images: list[Any]

    def as_tuple(self) -> tuple[Any, ...]:
        """Return the fields as TRL returns them."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def with_rows(self, replaced: dict[int, tuple["Rollouts", int]]) -> "Rollouts":
        """Return a copy in which some rows are those of other rollouts: row -> (rollouts, their row)."""

        def merged(name: str) -> Any:
            own = getattr(self, name)
            if not isinstance(own, list) or not own:
                return own
            return [value if row not in replaced else entry(name, *replaced[row]) for row, value in enumerate(own)]

        def entry(name: str, source: Rollouts, row: int) -> Any:
            values = getattr(source, name)
            # Rollouts of prompts without any image have no list of images.
            return [] if name == "images" and values is None else values[row]

        names = ("prompt_ids", "completion_ids", "tool_mask", "completions", "log_probs", "images", "tool_images")
        rows = replace(self, **{name: merged(name) for name in names})
        # TRL takes images from the data set where there are none here, and image processors refuse a batch of none.
        return rows if rows.images and any(rows.images) else replace(rows, images=None)


def generate(trainer: Any, inputs: Sequence[dict[str, Any]], prompts: Sequence[Prompt]) -> Rollouts:
    """Sample one response per row from the policy; a collective call on all processes.

    Args:
        trainer: the trainer.
        inputs: rows of the data set, a group's rows next to each other.
        prompts: what the policy reads for each of them, in plain text; the row's images are attached.
    """
    images = [images_of(row) for row in inputs]
    if any(images):
        prompts = [
            prompt if isinstance(prompt, str) else attach_images(prompt, own)
            for prompt, own in zip(prompts, images, strict=True)
        ]
    return Rollouts(*trainer._generate(list(prompts)))


def accuracy_of(trainer: Any, inputs: Sequence[dict[str, Any]], rollouts: Rollouts) -> list[float]:
    """Return 0 or 1 per rollout, by the reward function that routing reads; NaN where it returns ``None``.

    What it logs is dropped: TRL calls it again for the rollouts that are kept.
    """
    keys = [key for key in inputs[0] if key not in ("prompt", "completion", "completion_ids")]
    columns = {key: [row[key] for row in inputs] for key in keys}
    accuracy = trainer.reward_funcs[trainer._accuracy_column](
        prompts=[row["prompt"] for row in inputs],
        completions=rollouts.completions,
        completion_ids=rollouts.completion_ids,
        trainer_state=trainer.state,
        log_extra=_drop,
        log_metric=_drop,
        **columns,
    )
    if inspect.iscoroutine(accuracy):
        accuracy = asyncio.run_coroutine_threadsafe(accuracy, trainer.async_loop).result()
    return [math.nan if value is None else value for value in accuracy]


def _drop(*_: Any) -> None:
    """Stand in for TRL's ``log_extra`` and ``log_metric``."""


@contextmanager
def unlogged(trainer: Any) -> Iterator[None]:
    """While this lasts, sampling adds nothing to the logged response lengths: they are those of the policy's task."""
    metrics = trainer._metrics["train"]
    lengths = {name: len(values) for name, values in metrics.items() if name.startswith("completions/")}
    try:
        yield
    finally:
        for name, values in metrics.items():
            if name.startswith("completions/"):
                del values[lengths.get(name, 0) :]
