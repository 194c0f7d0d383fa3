"""The records of a run over TRL: where a resumed run goes on, and the tokens of runs that score as TRL does."""

import json
from contextlib import AbstractContextManager
from dataclasses import fields
from types import TracebackType
from typing import Any, Self

import torch
from accelerate.utils import is_peft_model
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ptdpo.folders import write_json
from ptdpo.runlog import SETTINGS_FILE, RecordWriter
from ptdpo.train.engine import MicroBatch
from ptdpo.train.recording import leading_positions
from ptdpo.tutor.head import ScoreDetails, ScoredTokens, head_of, leading_tokens


class RecordsCallback(TrainerCallback):
    """Drops records of steps that are about to be repeated, and says with what the run is started."""

    def __init__(self, records: RecordWriter, processes: int) -> None:
        self._records, self._processes = records, processes

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Go on after the last step that stands."""
        self._records.go_on_from(state.global_step, self._processes)
        if state.is_world_process_zero and getattr(args, "record_steps", 0):
            write_json(self._records.folder.parent / SETTINGS_FILE, started_with(args, model), indent=1)


def started_with(args: TrainingArguments, model: Any) -> dict[str, Any]:
    """Return the name of a model and the settings that differ from their defaults, as JSON; tokens are masked."""
    written = args.to_dict()
    changed = {field.name: written[field.name] for field in fields(args) if field.name in written}
    changed = {name: value for name, value in changed.items() if not _is_default(args, name)}
    name = getattr(getattr(model, "config", None), "_name_or_path", "")
    return json.loads(json.dumps({"model": name, "train": changed}, default=str), parse_constant=str)


def _is_default(args: TrainingArguments, name: str) -> bool:
    (field,) = (field for field in fields(args) if field.name == name)
    default = field.default_factory() if callable(field.default_factory) else field.default
    # Where it writes is no setting.
    return name == "output_dir" or getattr(args, name) == default


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
