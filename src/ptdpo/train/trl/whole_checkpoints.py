"""A mixin for transformers' trainers: checkpoints appear when they are whole, and only whole ones are gone on from."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, runtime_checkable

from accelerate.utils import broadcast_object_list
from torch.distributed.fsdp import StateDictType
from transformers import TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME

from ptdpo.folders import put_in_place
from ptdpo.models.saving import WRITING_ERRORS, reason_not_written, saving
from ptdpo.train.checkpoints.buffer import buffer_file, read_buffer, write_buffer
from ptdpo.train.checkpoints.converted import (
    Form,
    check_form,
    converted_optimiser,
    converted_weights,
    needs_conversion,
)
from ptdpo.train.checkpoints.manifest import (
    Manifest,
    RowLayout,
    check_whole,
    checkpoints_in,
    newest_whole,
    read_manifest,
    write_manifest,
)
from ptdpo.train.trl.epoch_order import EpochOrder
from ptdpo.train.trl.whole_weights import whole_weights

if TYPE_CHECKING:
    from transformers import Trainer as _Trainer
else:
    _Trainer = object

SAVING = ".saving"
Result = TypeVar("Result")


@runtime_checkable
class SavedBeside(Protocol):
    """A callback with weights of its own that belong into every checkpoint."""

    def save_beside(self, folder: Path) -> None:
        """Write them; called on the first process."""
        ...


class WholeCheckpoints(_Trainer):
    """Saves beside and renames, with a manifest; checks it before anything is loaded.

    Works for one process, DDP, FSDP and DeepSpeed: every process writes into one folder, and the first puts it in
    place when all have. Rollouts that are still to be trained on are saved with it.
    """

    args: Any
    num_iterations: int
    _step: int
    _buffered_inputs: Any
    _saving = False
    _resumed_from: Path | None = None

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.add_callback(EpochOrder())
        self.add_callback(_RolloutsBack(self))

    # -- loading -----------------------------------------------------------------------------------------------

    def train(
        self, resume_from_checkpoint: str | bool | None = None, trial: Any = None, ignore_keys_for_eval: Any = None
    ) -> Any:
        """As in transformers, but from a whole checkpoint only; ``True`` takes the newest that is whole.

        Raises:
            ValueError: if the checkpoint is damaged or cannot be gone on from exactly; says what can be done.
        """
        chosen: Path | None = None
        if resume_from_checkpoint is True:
            chosen = self.newest_checkpoint(print)
        elif resume_from_checkpoint:
            chosen = Path(str(resume_from_checkpoint))
            self._on_first(lambda: check_whole(chosen))
        if chosen is not None:
            self._refuse_inexact(chosen, read_manifest(chosen))
            check_form(chosen, self._form())
        self._resumed_from = chosen
        return super().train(None if chosen is None else str(chosen), trial, ignore_keys_for_eval)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load weights, converted if another layout wrote them."""
        path = Path(resume_from_checkpoint)
        if not needs_conversion(path, self._form()):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        with converted_weights(path, _tied(self.model), self._form()) as folder:
            super()._load_from_checkpoint(str(folder), model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load the optimiser's state, converted if another layout wrote it."""
        if checkpoint is None or not needs_conversion(Path(checkpoint), self._form()):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        model, optimiser = cast(Any, self.model), cast(Any, self.optimizer)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        groups = [[names[id(each)] for each in group["params"]] for group in optimiser.param_groups]
        with converted_optimiser(Path(checkpoint), groups, self._form()) as folder:
            super()._load_optimizer_and_scheduler(str(folder))

    def _form(self) -> Form:
        """Return in which form this run writes and reads checkpoints."""
        if self.is_deepspeed_enabled:
            return "deepspeed"
        if not self.is_fsdp_enabled:
            return "plain"
        kind = cast(Any, self.accelerator.state).fsdp_plugin.state_dict_type
        return "shards" if kind == StateDictType.SHARDED_STATE_DICT else "fsdp"

    def newest_checkpoint(self, tell: Callable[[str], None]) -> Path | None:
        """Return ``newest_whole`` of the run's folder, the same on all processes.

        Raises:
            ValueError: if there are checkpoints and none is whole.
        """
        return self._on_first(lambda: newest_whole(Path(self.args.output_dir), tell))

    def _on_first(self, work: Callable[[], Result]) -> Result:
        """Return what the first process finds, or raise its ``ValueError``, on all of them."""
        found: list[Any] = [None, None]
        if self.accelerator.is_main_process:
            try:
                found[0] = work()
            except ValueError as error:
                found[1] = str(error)
        if self.accelerator.num_processes > 1:
            broadcast_object_list(found)
        if found[1] is not None:
            raise ValueError(found[1])
        return found[0]

    def _refuse_inexact(self, chosen: Path, manifest: Manifest) -> None:
        if not manifest.resumable:
            raise ValueError(
                f"{chosen}: was saved with save_only_model=True, without optimiser and random state: a run cannot go "
                "on from it; take another output_dir, or set save_only_model=False before training"
            )
        if manifest.inside_generation and manifest.layout != self._layout():
            raise ValueError(
                f"{chosen}: lies inside a generation, whose rollouts fit only the layout that they were made in "
                f"({manifest.layout}); keep that layout{_or_nearest(chosen)}"
            )

    def _layout(self) -> RowLayout:
        return RowLayout(
            self.accelerator.num_processes,
            self.args.per_device_train_batch_size,
            self.args.gradient_accumulation_steps,
            getattr(self.args, "steps_per_generation", None) or 0,
        )

    # -- saving ------------------------------------------------------------------------------------------------

    def _get_output_dir(self, trial: Any) -> str:
        folder = super()._get_output_dir(trial)
        return os.path.join(folder, SAVING) if self._saving else folder

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        run = Path(super()._get_output_dir(trial))
        staged = run / SAVING / f"checkpoint-{self.state.global_step}"
        final = run / staged.name
        if self.args.should_save:
            shutil.rmtree(staged.parent, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._saving = True
        try:
            with naming_what_is_left(final, "the checkpoint", final.parent):
                super()._save_checkpoint(model, trial)
                self._save_beside(staged)
        except OSError:
            shutil.rmtree(staged.parent, ignore_errors=True)
            raise
        finally:
            self._saving = False
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self._put_in_place(staged, final)
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            super()._push_from_checkpoint(str(final))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As in transformers, but the weights are whole; a checkpoint keeps them as its engine does."""
        if _internal_call:
            super().save_model(output_dir, _internal_call)
            return
        with saving(output_dir or str(self.args.output_dir)), whole_weights(self):
            super().save_model(output_dir)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """As in transformers, but tied weights that an engine gathered one by one are written once."""
        if state_dict is not None:
            twice = _tied(self.accelerator.unwrap_model(cast(Any, self.model)))
            state_dict = {name: each for name, each in state_dict.items() if twice.get(name) not in state_dict}
        super()._save(output_dir, state_dict)

    def _save_beside(self, staged: Path) -> None:
        """Write what transformers does not know of: rollouts in use, and the weights of callbacks."""
        if self._inside_generation() and not self.args.save_only_model:
            staged.mkdir(parents=True, exist_ok=True)
            owed = {"step": self._step, "buffer": self._buffered_inputs}
            write_buffer(buffer_file(staged, self.accelerator.process_index), owed)
        if self.accelerator.is_main_process:
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, SavedBeside):
                    callback.save_beside(staged)

    def _put_in_place(self, staged: Path, final: Path) -> None:
        best = self.state.best_model_checkpoint
        if best is not None and Path(best).parent == staged.parent:
            self.state.best_model_checkpoint = str(final)
            self.state.save_to_json(str(staged / TRAINER_STATE_NAME))
        with naming_what_is_left(final, "the checkpoint", final.parent):
            write_manifest(
                staged,
                step=self.state.global_step,
                resumable=not self.args.save_only_model,
                inside_generation=self._inside_generation(),
                layout=self._layout(),
            )
            put_in_place(staged, final)
        remove_oldest(final.parent, self.args.save_total_limit, self.state.best_model_checkpoint)
        shutil.rmtree(staged.parent, ignore_errors=True)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Do nothing: the checkpoint is pushed from its place, once it is there."""

    # -- rollouts in use ---------------------------------------------------------------------------------------

    def _inside_generation(self) -> bool:
        """Return whether rollouts were generated that the next steps train on."""
        if getattr(self, "_buffered_inputs", None) is None:
            return False
        return self._step % (self.args.steps_per_generation * self.num_iterations) != 0

    def put_rollouts_back(self) -> None:
        """Go on inside the generation in which the checkpoint was saved, if it was."""
        if self._resumed_from is not None and read_manifest(self._resumed_from).inside_generation:
            path = buffer_file(self._resumed_from, self.accelerator.process_index)
            owed = read_buffer(path, self.accelerator.device)
            self._step, self._buffered_inputs = owed["step"], owed["buffer"]


class _RolloutsBack(TrainerCallback):
    """Puts rollouts back when everything else is loaded."""

    def __init__(self, trainer: WholeCheckpoints) -> None:
        self._trainer = trainer

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Before the first step."""
        self._trainer.put_rollouts_back()


def _tied(model: Any) -> dict[str, str]:
    """Return the names under which a weight stands besides the first of its names, which it maps to."""
    first: dict[int, str] = {}
    every = model.named_parameters(remove_duplicate=False)
    return {name: kept for name, each in every if (kept := first.setdefault(id(each), name)) != name}


def _or_nearest(chosen: Path) -> str:
    """Return the advice to go on from an earlier checkpoint that any layout can, if there is one."""
    for path in checkpoints_in(chosen.parent):
        try:
            manifest, step = read_manifest(path), read_manifest(chosen).step
        except ValueError:
            continue
        if not manifest.inside_generation and manifest.step < step:
            return f", or delete {chosen.name}: {path.name} is the nearest that another layout can go on from"
    return ""


@dataclass(frozen=True, slots=True)
class Steps:
    """Optimiser steps of a checkpoint: ``done`` of those that its run was ``asked`` for."""

    done: int
    asked: int


def steps_of(checkpoint: Path) -> Steps:
    """Return how far a checkpoint is, as transformers' state in it says."""
    state = json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    return Steps(state["global_step"], state["max_steps"])


def remove_oldest(run: Path, limit: int | None, best: str | None) -> None:
    """Keep the newest checkpoints and the best; the others leave by a rename, so that none is there in part."""
    for old in checkpoints_in(run)[limit:] if limit and limit > 0 else []:
        if best is None or Path(best).name != old.name:
            gone = run / SAVING / f"gone-{old.name}"
            gone.parent.mkdir(exist_ok=True)
            shutil.rmtree(gone, ignore_errors=True)
            old.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def naming_what_is_left(path: Path, what: str, run: Path) -> Iterator[None]:
    """Say in one line what could not be saved, and from where the run goes on.

    Raises:
        OSError: in the place of what the libraries raise when a file cannot be written.
    """
    try:
        yield
    except WRITING_ERRORS as error:
        reason = reason_not_written(error)
        if reason is None:
            raise
        kept = checkpoints_in(run)
        last = f"the last good one is {kept[0].name}" if kept else "there is no checkpoint before it"
        message = f"{path}: {what} could not be saved ({reason}); {last}; the same command goes on from there"
        raise OSError(message) from error
