"""From a recipe to a finished run: check, train, resume, stop."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ptdpo.config import Recipe
from ptdpo.data.dataset import rl_dataset
from ptdpo.data.load import LoadedData, instruction_of, load_data
from ptdpo.folders import HeldFolder, sole_writer, write_json, write_text
from ptdpo.models.loading import check_model, load_processor, reading_weights
from ptdpo.runlog import FINISHED, STARTED
from ptdpo.signals import StopRequest, heeding_signals
from ptdpo.train.checkpoints.manifest import check_whole, checkpoints_in
from ptdpo.train.model_card import MODEL_CARD, model_card
from ptdpo.train.plan import Plan, Settings, context_of, plan_of, resolved_settings, teacher_images_of
from ptdpo.train.provenance import check_same, provenance_of
from ptdpo.train.settings import PTDConfig
from ptdpo.train.start import whole_start
from ptdpo.train.trainer import PTDTrainer
from ptdpo.train.trl.sft import WholeSFTTrainer, make_sft_trainer
from ptdpo.train.trl.stopping import end_unless, own_signals_only, stop_after_step
from ptdpo.train.trl.whole_checkpoints import WholeCheckpoints, naming_what_is_left, steps_of

# That of transformers.
DEFAULT_OUTPUT_FOLDER = "trainer_output"


def train_recipe(recipe: Recipe) -> Path:
    """Train as the recipe says, from the newest whole checkpoint of the output folder if there is one.

    A checkpoint that has all steps of the recipe is not trained further. ``started.json`` and ``finished.json`` in
    the folder say what it was trained with. SIGTERM, SIGINT and SIGHUP end the run after the optimiser step, with a
    checkpoint.

    Returns:
        The folder with the trained model and its processor.

    Raises:
        ValueError: on any mistake in the recipe or its data, if another number of processes was launched, if another
            process trains into the folder, if no checkpoint there is whole, or if the newest was trained with other
            settings; its run may only be prolonged, laid out over other processes and reported otherwise.
        StoppedBySignal: if a signal ended the run before its last step.
    """
    settings = resolved_settings(recipe)
    check_processes(recipe)
    folder = output_folder(settings)
    _refuse_other_run(recipe, folder)
    check_model(recipe.model)
    processor = load_processor(recipe.model)
    data = load_data(
        recipe.data,
        processor=processor,
        context=context_of(settings),
        teacher=teacher_images_of(settings),
        processes=recipe.processes,
    )
    plan = plan_of(recipe, settings, data)
    _say(f"dropped: {data.report}" if data.report else "")
    with _held(folder) as held, heeding_signals(_say) as stop:
        _refuse_other_run(recipe, folder)
        if (done := _finished(folder, settings, plan)) is not None:
            _say(f"{folder}: finished, {done.name} has all steps; to go on, raise max_steps or epochs")
            return folder
        start = whole_start(recipe.model, folder, use_cpu=settings.use_cpu)
        with own_signals_only():
            trainer = make_trainer(replace(recipe, model=start), settings, data, processor)
        try:
            checkpoint = trainer.newest_checkpoint(_say)
            if checkpoint is not None and _has_all_steps(checkpoint, settings, plan):
                # The model itself was never saved. Without an epoch to train, the checkpoint is loaded and that is all.
                trainer.args.max_steps, trainer.args.num_train_epochs = -1, 0
            stop.check(f"{folder}: before the first step; the same command begins")
            if held is not None:
                end_unless(trainer, held.check)
            _train(trainer, folder, checkpoint, processor, provenance_of(recipe), stop)
            if trainer.accelerator.is_main_process:
                write_text(folder / MODEL_CARD, model_card(plan, settings))
        finally:
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
    return folder


def check_processes(recipe: Recipe) -> None:
    """Refuse to run under another launcher than the recipe is laid out for.

    Raises:
        ValueError: if another number of processes was launched.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != recipe.processes:
        raise ValueError(
            f"the recipe is laid out for {recipe.processes} processes but {launched} were launched: start it with "
            f"{launch_command(recipe.processes, torch.cuda.device_count())}, or set processes={launched} and adjust "
            "the batch sizes"
        )


def launch_command(processes: int, devices: int) -> str:
    """Return the command that starts a recipe on so many processes.

    Args:
        processes: over all machines.
        devices: accelerators of this machine; 0: none, and then all processes are started here.
    """
    machines = processes // devices if devices and processes % devices == 0 else 1
    here = f"--nproc-per-node {processes // machines} -m ptdpo train RECIPE"
    if machines == 1:
        return f"`torchrun {here}`"
    return f"`torchrun --nnodes {machines} --rdzv-backend c10d --rdzv-endpoint FIRST_HOST:29500 {here}` on each machine"


def _refuse_other_run(recipe: Recipe, folder: Path) -> None:
    # A finished run may have kept no checkpoint: another one into its folder would leave the files of both.
    if checkpoints_in(folder) or (folder / FINISHED).exists():
        remedy = f"set another output_dir, or delete {folder} to train anew"
        check_same(folder / STARTED, provenance_of(recipe), remedy, may_go_on=True)


@contextmanager
def _held(folder: Path) -> Iterator[HeldFolder | None]:
    """Hold the folder for this run, which the first of its processes does for all."""
    if os.environ.get("RANK", "0") != "0":
        yield None
        return
    with sole_writer(folder, "train") as held:
        yield held


def _train(
    trainer: WholeCheckpoints,
    folder: Path,
    checkpoint: Path | None,
    processor: Any,
    content: dict[str, Any],
    stop: StopRequest,
) -> None:
    """Train and save. All processes have compared what the folder holds before the first of them writes there."""
    if trainer.accelerator.is_main_process:
        (folder / FINISHED).unlink(missing_ok=True)
        write_json(folder / STARTED, content)
    stop_after_step(trainer, stop)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    step, last = trainer.state.global_step, trainer.state.max_steps
    if step < last:
        where = f"{folder}: step {step} of {last} is done and saved; the same command goes on"
        stop.check(where)
        raise ValueError(f"training ended by itself before its last step: {where}")
    with naming_what_is_left(folder, "the model", folder):
        trainer.save_model(str(folder))
        if trainer.accelerator.is_main_process:
            processor.save_pretrained(folder)
            write_json(folder / FINISHED, content)


def _finished(folder: Path, settings: Settings, plan: Plan) -> Path | None:
    """Return the checkpoint that has all steps of a finished run, ``None`` if something is left to do."""
    newest = next(iter(checkpoints_in(folder)), None)
    if newest is None or not (folder / FINISHED).exists():
        return None
    try:
        check_whole(newest, content=False)
    except ValueError:
        return None
    return newest if _has_all_steps(newest, settings, plan) else None


def _has_all_steps(checkpoint: Path, settings: Settings, plan: Plan) -> bool:
    """Return whether nothing is left to train; transformers would train one step more on such a checkpoint."""
    steps = steps_of(checkpoint)
    return steps.done >= (settings.max_steps if settings.max_steps > 0 else max(plan.optimiser_steps, steps.asked))


def output_folder(settings: Settings) -> Path:
    """Return where a run with these settings writes."""
    return Path(settings.output_dir or DEFAULT_OUTPUT_FOLDER)


def _say(text: str) -> None:
    if text and os.environ.get("RANK", "0") == "0":
        Console(stderr=True).print(text, soft_wrap=True)


def make_trainer(recipe: Recipe, settings: Settings, data: LoadedData, processor: Any) -> PTDTrainer | WholeSFTTrainer:
    """Return the trainer of a recipe, whose model is no adapter.

    Args:
        recipe: the recipe.
        settings: ``resolved_settings`` of it.
        data: its data, loaded.
        processor: that of its model.
    """
    with reading_weights(recipe.model):
        if isinstance(settings, PTDConfig):
            return _make_rl_trainer(recipe, settings, data, processor, _lora(recipe))
        return make_sft_trainer(recipe, settings, data, processor, _lora(recipe))


def _make_rl_trainer(recipe: Recipe, settings: PTDConfig, data: LoadedData, processor: Any, adapter: Any) -> PTDTrainer:
    rows = rl_dataset(data.problems, data.hints, instruction=instruction_of(recipe.data), solutions=data.solutions)
    args = settings.completed()
    return PTDTrainer(
        recipe.model,
        None,
        args,
        grading=recipe.data.grading,
        train_dataset=rows,
        processing_class=processor,
        peft_config=adapter,
    )


def _lora(recipe: Recipe) -> Any:
    if recipe.lora.rank == 0:
        return None
    from peft import LoraConfig

    targets = recipe.lora.target_modules
    return LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
