"""Does the engine that samples agree with the one that trains? Log-probabilities of the same tokens, side by side."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from trl import GRPOTrainer

from ptdpo.models.family import PIXELS
from ptdpo.train.trl.unlogged import metrics_kept

_LISTED = 8
# Long enough to see a difference, short enough to cost nothing beside a step.
CHECKED_TOKENS = 64
# A prompt that is read otherwise shifts nearly all tokens.
_MOST = 0.5


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the two are apart on some responses, in nats.

    Attributes:
        mean: of the absolute differences.
        largest: of them.
        tokens: how many were compared.
    """

    mean: float
    largest: float
    tokens: int


def agreement(sampled: Tensor, scored: Tensor, mask: Tensor) -> Agreement:
    """Compare log-probabilities [B, T] of the sampling engine with those of the trainer, where the mask holds.

    Tokens that the engine could not score (NaN) are left out.
    """
    difference = (sampled.float() - scored.float()).abs()[mask.bool() & ~sampled.isnan()]
    if not difference.numel():
        return Agreement(0.0, 0.0, 0)
    return Agreement(difference.mean().item(), difference.max().item(), difference.numel())


def check_agreement(
    sampled: Tensor,
    scored: Tensor,
    mask: Tensor,
    response_ids: Tensor,
    *,
    limit: float,
    when: str,
    token: Callable[[int], str],
    ids: Sequence[str] = (),
    has_images: bool = False,
) -> Agreement:
    """Refuse an engine whose log-probabilities differ from the trainer's by more than ``limit`` in the mean.

    Args:
        sampled: [B, T], of the engine.
        scored: [B, T], of the trainer, by the same weights.
        mask: [B, T], response tokens.
        response_ids: [B, T].
        limit: nats.
        when: "at the start" or "after the first update", for the message and the cause.
        token: id -> text.
        ids: of the rows, for the message.
        has_images: some prompts have images.

    Raises:
        ValueError: with the tokens that differ most and the likely cause.
    """
    found = agreement(sampled, scored, mask)
    if not found.tokens or found.mean <= limit:
        return found
    difference = ((sampled.float() - scored.float()).abs() * mask).nan_to_num(0.0)
    worst = difference.flatten().topk(min(_LISTED, difference.numel())).indices.tolist()
    width = mask.size(1)
    lines = []
    for place in worst:
        row, position = divmod(place, width)
        name = ids[row] if row < len(ids) else str(row)
        lines.append(
            f"  {name:>12}  {position:>5}  {token(int(response_ids[row, position]))!r:<16}"
            f"  {float(sampled[row, position]):>9.4f}  {float(scored[row, position]):>9.4f}"
        )
    signed = (sampled.float() - scored.float())[mask.bool() & ~sampled.isnan()]
    raise ValueError(
        f"{when} the engine that samples and the trainer disagree by {found.mean:.4f} nats in the mean (largest "
        f"{found.largest:.3f}, {found.tokens} tokens; limit engine_check_nats={limit}). "
        f"{_cause(when, signed, limit, has_images)}\n"
        "           row  place  token               engine    trainer\n" + "\n".join(lines)
    )


def _cause(when: str, difference: Tensor, limit: float, has_images: bool) -> str:
    """Return the likely cause of differences [n], engine less trainer."""
    if when != "at the start":
        cached = "images encoded with the old weights" if has_images else "weights that did not arrive"
        return f"At the start they agreed, so the likely cause is the update: {cached}"
    if not (difference < -limit).any():
        return (
            "No token is less probable to the engine: its distribution leaves tokens out that the trainer counts "
            "(ban_special_tokens, top_p, top_k, min_p). If that is meant, raise engine_check_nats"
        )
    if (difference.abs() > limit).float().mean() <= _MOST:
        return "Few tokens differ: the likely cause is low precision, or a few rows that are read otherwise"
    if has_images:
        return "Nearly all tokens differ: the likely cause is that images are expanded twice or resized otherwise"
    return "Nearly all tokens differ: the likely causes are other weights, another prompt, or another temperature"


def mean_ratio(sampled: Tensor, scored: Tensor, mask: Tensor, *, by_sequence: bool) -> float:
    """Return the mean importance ratio pi_trainer / pi_engine, of whole responses or of tokens."""
    difference = ((scored.float() - sampled.float()) * mask).nan_to_num(0.0)
    if by_sequence:
        return difference.sum(dim=1).exp().mean().item()
    kept = difference[mask.bool()]
    return kept.exp().mean().item() if kept.numel() else math.nan


def warn_of_shrinking(ratio: float, mode: str, least: float = 0.9) -> str:
    """Return a warning if a correction by whole responses shrinks the update; empty if it does not."""
    if not mode.startswith("sequence") or not ratio < least:
        return ""
    return (
        f"vllm_importance_sampling_mode={mode}: the mean ratio of whole responses is {ratio:.3g}, so the policy "
        "gradient is scaled down or masked away; with top_p below 1 the engine reports probabilities of the truncated "
        "distribution, about 0.3 % per token. Use vllm_importance_sampling_mode=token_truncate, or top_p=1"
    )


class EngineCheck:
    """Compares engine and trainer at every generation; stops the run at the start, or after the first update.

    At the start the rollouts of the first step are compared. After the first update of the weights the first rows are
    answered once more, since stale images show only where an image comes again. Later disagreement is a warning.

    Args:
        limit: nats in the mean; ``None``: nothing is checked.
        mode: TRL's ``vllm_importance_sampling_mode``, if it corrects at all.
        token: id -> text.
    """

    def __init__(self, limit: float | None, mode: str | None, token: Callable[[int], str]) -> None:
        self._limit, self._mode, self._token = limit, mode, token
        self._first: tuple[int, list[Any]] | None = None
        self._probed = self._warned = False

    def rows_to_repeat(self, step: int, rows: Sequence[Any], count: int) -> list[Any]:
        """Return the rows to answer again before this step's own: the first ones, once, after the first update.

        Args:
            step: optimiser steps made.
            rows: of this step, G of each prompt.
            count: how many of them to keep at most, a multiple of G.
        """
        if self._limit is None or self._probed:
            return []
        if self._first is None:
            self._first = (step, list(rows[:count]))
            return []
        if step == self._first[0]:
            return []
        self._probed = True
        return self._first[1]

    def __call__(self, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Any], when: str = "") -> None:
        """Compare the rollouts that TRL has batched.

        Args:
            rows: of the data set.
            columns: TRL's batch.
            when: "at the start" or "after the first update": stop the run; empty: warn.

        Raises:
            ValueError: if they disagree there; see ``check_agreement``.
        """
        sampled, scored = columns.get("sampling_per_token_logps"), columns.get("old_per_token_logps")
        if self._limit is None or sampled is None or scored is None:
            return
        mask = columns["completion_mask"] * columns.get("tool_mask", 1)
        try:
            check_agreement(
                sampled, scored, mask, columns["completion_ids"],
                limit=self._limit, when=when or "now", token=self._token,
                ids=[str(row.get("id", place)) for place, row in enumerate(rows)],
                has_images=columns.get(PIXELS) is not None,
            )  # fmt: skip
        except ValueError as error:
            if when:
                raise
            self._warn(str(error))
        if self._mode:
            self._warn(warn_of_shrinking(mean_ratio(sampled, scored, mask, by_sequence=True), self._mode))

    @property
    def at_the_start(self) -> bool:
        """Whether no update of the weights was checked yet."""
        return not self._probed

    def _warn(self, message: str) -> None:
        if message and not self._warned:
            self._warned = True
            warnings.warn(message, stacklevel=2)


@contextmanager
def unlogged(trainer: GRPOTrainer, response_length: int) -> Iterator[None]:
    """While this lasts, a trainer's generations are short and leave nothing in its logs."""
    logs, generation = trainer._logs, trainer.vllm_generation
    kept = {name: list(values) for name, values in logs.items() if not isinstance(values, dict)}
    length, seen = generation.max_completion_length, trainer.state.num_input_tokens_seen
    generation.max_completion_length = min(length, response_length)
    try:
        with metrics_kept(trainer):
            yield
    finally:
        generation.max_completion_length, trainer.state.num_input_tokens_seen = length, seen
        for name, values in kept.items():
            logs[name].clear()
            logs[name].extend(values)
