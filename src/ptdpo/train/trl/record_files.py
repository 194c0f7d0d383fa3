"""The records of a run over TRL: where a resumed run goes on, and the tokens of runs that score as TRL does."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

import torch
from accelerate.utils import is_peft_model
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ptdpo.runlog import RecordWriter
from ptdpo.train.engine import MicroBatch
from ptdpo.train.recording import leading_positions
from ptdpo.tutor.head import ScoreDetails, ScoredTokens, head_of, leading_tokens


class RecordsCallback(TrainerCallback):
    """Drops records of steps that are about to be repeated."""

    def __init__(self, records: RecordWriter, processes: int) -> None:
        self._records, self._processes = records, processes

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Go on after the last step that stands."""
        self._records.go_on_from(state.global_step, self._processes)


class PlainScores(AbstractContextManager["PlainScores"]):
    """What TRL's own scoring finds while a micro-batch's loss is computed, seen without touching it.

    Args:
        model: the one in training, without its engine's wrapper.
        micro: what is trained on.
        temperature: the sampling temperature.
    """

    def __init__(self, model: Any, micro: MicroBatch, temperature: float) -> None:
        self._model = model.get_base_model() if is_peft_model(model) else model
        self._micro, self._temperature = micro, temperature
        self._hidden: Tensor | None = None
        self._scores: tuple[Tensor, Tensor | None] | None = None

    def __enter__(self) -> Self:
        self._hook = self._model.base_model.register_forward_hook(self._see)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hook.remove()

    def take(self, log_probs: Tensor, entropy: Tensor | None) -> None:
        """Keep the scores [B, T] that TRL was given."""
        self._scores = log_probs.detach(), None if entropy is None else entropy.detach()

    def scored(self) -> ScoredTokens | None:
        """Return them; ``None`` if TRL did not score, as with Liger's loss."""
        if self._scores is None:
            return None
        log_probs, entropy = self._scores
        return ScoredTokens(log_probs, ScoreDetails(entropy, leading=self._leading()))

    def _see(self, module: torch.nn.Module, inputs: Any, outputs: Any) -> None:
        hidden = getattr(outputs, "last_hidden_state", None)
        self._hidden = None if hidden is None else hidden.detach()

    def _leading(self) -> Any:
        """Return the leading tokens; none where the head is in parts, which only a collective call makes whole."""
        positions, layer = leading_positions(self._micro), self._model.get_output_embeddings()
        parted = hasattr(layer.weight, "ds_id") or hasattr(layer.weight, "full_tensor")
        if positions is None or parted or self._hidden is None or self._hidden.size(0) != positions.size(0):
            return None
        states = self._hidden[:, -1 - positions.size(1) : -1]
        return leading_tokens(states[positions].to(layer.weight.dtype), head_of(self._model), self._temperature)
