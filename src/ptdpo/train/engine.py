"""The seam between the method and what trains: what the method needs of an engine, and the records that cross.

An engine samples, scores and steps; the method chooses rollouts, lets a teacher read some, and adds terms to the loss.
``ptdpo.train.trl`` implements it over TRL. The life of a rollout, record by record:

``Rollouts`` (sampled) -> ``RolloutBatch`` (graded, as tensors) -> ``Prepared`` (what the method adds) ->
``RolloutRecord`` (travels with each rollout) -> ``MicroBatch`` (what is trained on at once).
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from ptdpo.data.contexts import Row
from ptdpo.data.prompts import Prompt
from ptdpo.runlog.lines import Line
from ptdpo.tutor.groups import Groups
from ptdpo.tutor.head import HeadWeights
from ptdpo.tutor.processes import Processes
from ptdpo.tutor.teacher import TeacherReading, Turns

NOT_TUTORED = TeacherReading(in_tutored_group=False)


class Rollouts(Protocol):
    """One response per row, as the engine sampled them, so that rows can be chosen and replaced."""

    @property
    def response_ids(self) -> Sequence[list[int]]:
        """Return the sampled ids of each row."""
        ...

    def with_rows(self, replaced: Mapping[int, tuple[Self, int]], *, keep_prompts: bool = False) -> Self:
        """Return a copy in which some rows are those of other rollouts: row -> (rollouts, their row).

        Args:
            replaced: by row.
            keep_prompts: only their responses; prompts stay the rows' own.
        """
        ...


@dataclass(frozen=True, slots=True)
class RolloutBatch:
    """The rollouts that a process will train on, graded.

    Attributes:
        rows: the row of the data set of each rollout; those of a group are neighbours.
        groups: the accuracy of all processes' rollouts.
        response_ids: [rows, T], padded.
        response_mask: [rows, T] bool, the tokens that are trained on: those that the policy wrote.
        advantages: [rows].
        has_images: the batch has images.
        rewards: [rows], weighted, from which the advantages come; ``None``: the engine does not say.
        reader: the reward function whose verdict the accuracy is.
        content: the batch as the engine keeps it; only the engine reads it.
        read_mask: [rows, T] bool, all tokens of the responses, what tools and environments answered included; ``None``:
            the policy wrote them all.
        turns: what else each rollout has of several turns; ``None``: there are none.
    """

    rows: Sequence[Row]
    groups: Groups
    response_ids: Tensor
    response_mask: Tensor
    advantages: Tensor
    has_images: bool
    rewards: Tensor | None = None
    reader: str = ""
    content: object = None
    read_mask: Tensor | None = None
    turns: Sequence[Turns] | None = None

    @property
    def responses(self) -> list[Tensor]:
        """Return the ids of each response, observations included, without padding."""
        read = self.response_mask if self.read_mask is None else self.read_mask
        return [ids[kept] for ids, kept in zip(self.response_ids, read, strict=True)]

    @property
    def written(self) -> list[Tensor] | None:
        """Return which tokens of each response the policy wrote; ``None``: all."""
        if self.read_mask is None:
            return None
        return [own[kept] for own, kept in zip(self.response_mask, self.read_mask, strict=True)]


@dataclass(frozen=True, slots=True)
class MaskedImages:
    """How one rollout would be scored if patches of its images were black (PAPO): one of the two.

    Attributes:
        pixels: the blackened images as the model reads them.
        log_probs: [T], log pi of the response's tokens under them, scored when the rollout was made.
    """

    pixels: Tensor | None = None
    log_probs: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """How a rollout is named whose tokens are written to the run's records.

    Attributes:
        step: for which it was sampled.
        rollout: its place in its group.
    """

    step: int
    rollout: int

    def key(self, group: int) -> tuple[int, int, int]:
        """Return step, group and rollout."""
        return self.step, group, self.rollout


@dataclass(frozen=True, slots=True)
class RolloutRecord:
    """What of the method's travels with one rollout from where it was made to the loss.

    Attributes:
        group: counted over all processes.
        reading: what the teacher left.
        masked: for the perception terms; ``None`` without them, or without images.
        kept: its tokens are written to the run's records.
    """

    group: int
    reading: TeacherReading = NOT_TUTORED
    masked: MaskedImages | None = None
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the method adds to a batch of rollouts before training.

    Attributes:
        records: one per rollout.
        advantages: [rows], in the place of the batch's.
        replaced: row -> ids of the response that takes the place of the row's own; ``None`` if the method never
            replaces any. Where it may, every process must write even none: lengths are then summed over all of them.
    """

    records: Sequence[RolloutRecord]
    advantages: Tensor
    replaced: Mapping[int, list[int]] | None = None


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rollouts that are scored and differentiated at once.

    Attributes:
        records: one per row.
        response_ids: [B, T], padded.
        response_mask: [B, T] bool.
        old_log_probs: [B, T], log pi_old where the rollouts are older than the policy; ``None``: they are not.
        parts: by how many such micro-batches a mean over rows is divided: those of an optimiser step.
        share: of a micro-batch that is split further, the share of its rows that these are; 0: they are read only
            because another process has more to read, and count elsewhere.
        step_tokens: response tokens of the optimiser step, over all processes; a scalar.
        teacher_head: the head of the teacher, if it read anything of the optimiser step.
        content: the rows as the engine keeps them; only the engine reads it.
    """

    records: Sequence[RolloutRecord]
    response_ids: Tensor
    response_mask: Tensor
    old_log_probs: Tensor | None = None
    parts: int = 1
    share: float = 1.0
    step_tokens: Tensor = field(default_factory=lambda: torch.ones(()))
    teacher_head: HeadWeights | None = None
    content: object = None

    @property
    def tutored(self) -> Tensor:
        """Return [B, T] bool, the tokens that the teacher read."""
        rows = torch.tensor([record.reading.tokens > 0 for record in self.records], device=self.response_mask.device)
        return rows.unsqueeze(1) & self.response_mask


class Engine(Protocol):
    """What the method needs of whatever trains. ``generate``, ``scores`` and ``processes`` are collective calls."""

    @property
    def processes(self) -> Processes:
        """Return the processes that train together."""
        ...

    @property
    def generations(self) -> int:
        """Return G, rollouts per group."""
        ...

    @property
    def step(self) -> int:
        """Return how many optimiser steps were made."""
        ...

    @property
    def micro_step(self) -> int:
        """Return which micro-batch of the optimiser step comes next, from 0."""
        ...

    @property
    def progress(self) -> float:
        """Return the share of the run that is done."""
        ...

    @property
    def rows(self) -> Sequence[Row]:
        """Return the training data."""
        ...

    def generate(self, rows: Sequence[Row], prompts: Sequence[Prompt], *, logged: bool = True) -> Rollouts:
        """Sample one response per row from the policy.

        Args:
            rows: rows of the data set, a group's rows next to each other; their images are attached to the prompts.
            prompts: what the policy reads for each of them, without images.
            logged: count them into the logged response lengths.
        """
        ...

    def accuracy(self, rows: Sequence[Row], rollouts: Rollouts) -> list[float]:
        """Return 0 or 1 per rollout; NaN where it cannot be graded. Nothing is logged."""
        ...

    def texts(self, response_ids: Tensor) -> list[str]:
        """Return responses [B, T] as texts, without special tokens."""
        ...

    def token(self, token_id: int) -> str:
        """Return one token as text."""
        ...

    def pixels(self, batch: RolloutBatch, images: Mapping[int, Sequence[Any]]) -> Mapping[int, Tensor]:
        """Return the images of some rows as the model reads them, by row.

        Args:
            batch: to whose layout they are brought.
            images: row -> images, as many and as large as the row's own.
        """
        ...

    def scores(self, batch: RolloutBatch | MicroBatch, pixels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and entropies [B, T] of the responses when the policy sees other pixels.

        Args:
            batch: of rollouts, scored a micro-batch at a time, or a micro-batch.
            pixels: one tensor per row, of the shape of the row's own.
        """
        ...

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the precision in which models run."""
        ...

    def timed(self, part: str) -> AbstractContextManager[Any]:
        """Return a context whose seconds are logged under ``part``."""
        ...

    def log(self, name: str, value: float) -> None:
        """Log a number that is the same on all processes."""
        ...

    def record(self, lines: Sequence[Line]) -> None:
        """Append lines to the records of the run."""
        ...

    def keep_images(self, images: Sequence[Any]) -> tuple[str, ...]:
        """Keep images with the records; returns their file names."""
        ...
