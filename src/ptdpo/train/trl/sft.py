"""Supervised fine-tuning on accepted solutions, through TRL's SFTTrainer."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import PreTrainedModel
from trl import SFTConfig, SFTTrainer

from ptdpo.config import Recipe
from ptdpo.data.dataset import sft_dataset, solution_rows
from ptdpo.data.load import LoadedData, instruction_of
from ptdpo.data.rendering import reads_parts
from ptdpo.models import load_model, load_processor
from ptdpo.models.saving import saving
from ptdpo.train.settings import settings_as_written
from ptdpo.train.trl.metrics_file import MetricsFile
from ptdpo.train.trl.step_lines import say_steps_in_lines
from ptdpo.train.trl.whole_checkpoints import WholeCheckpoints

# A row with an image that loses tokens no longer matches its image features.
_FIXED = {
    "max_length": None, "truncation_mode": "keep_start", "packing": False, "packing_strategy": "bfd",
    "eval_packing": None, "padding_free": False, "completion_only_loss": True, "assistant_only_loss": False,
}  # fmt: skip
# Model, tokens, template and rows are those of the recipe.
_OF_THE_RECIPE = {
    "model_init_kwargs": None, "trust_remote_code": False, "chat_template_path": None, "eos_token": None,
    "pad_token": None, "dataset_kwargs": None, "dataset_text_field": "text",
    "pad_to_multiple_of": "auto", "shuffle_dataset": False,
}  # fmt: skip
# Steps, of runs long enough for them.
_WARM_UP, _LOGGED_EVERY = 30, 25
_KNOWN = {"loss_type": ("nll", "dft"), "train_sampling_strategy": ("random", "sequential")}


def sft_settings(given: Mapping[str, Any]) -> SFTConfig:
    """Return settings of TRL's ``SFTConfig`` as written, see ``settings_as_written``.

    Raises:
        ValueError: on a name that ``SFTConfig`` does not have (suggests the nearest), a value of the wrong type or out
            of range, or a setting that would have no effect.
    """
    for name, only in _FIXED.items():
        if given.get(name, only) != only:
            raise ValueError(
                f"{name}={given[name]!r}: rows are trained on whole, one by one and on their responses only; leave it "
                "out"
            )
    for name, only in _OF_THE_RECIPE.items():
        if given.get(name, only) != only:
            raise ValueError(
                f"{name}={given[name]!r}: nothing reads it: fine-tuning takes the recipe's model, its template and "
                "tokens, and rows of its own; leave it out"
            )
    for name, known in _KNOWN.items():
        if given.get(name, known[0]) not in known:
            raise ValueError(f"{name}={given[name]!r}: must be {' or '.join(known)}")
    if given.get("activation_offloading") and given.get("use_cpu"):
        raise ValueError("activation_offloading=True with use_cpu=True: there is no other memory; leave it out")
    return settings_as_written(SFTConfig, given, "setting of supervised fine-tuning")


def make_sft_trainer(
    recipe: Recipe, settings: SFTConfig, data: LoadedData, processor: Any, adapter: Any
) -> "WholeSFTTrainer":
    """Return the trainer of a recipe with preset ``sft``.

    Raises:
        ValueError: if no solution belongs to a problem.
    """
    rows = solution_rows(data.problems, data.solutions, instruction_of(recipe.data))
    args = dataclasses.replace(settings)
    model = load_model(recipe.model, dtype=torch.bfloat16 if args.bf16 else torch.float32)
    return _sft_trainer(model, processor, sft_dataset(rows), args, adapter)


class WholeSFTTrainer(WholeCheckpoints, SFTTrainer):
    """TRL's trainer with whole checkpoints."""


def _sft_trainer(
    model: str | PreTrainedModel, processor: Any, dataset: datasets.Dataset, args: SFTConfig, adapter: Any = None
) -> WholeSFTTrainer:
    args.max_length = None
    args.completion_only_loss = True
    if not reads_parts(processor):
        dataset = _without_images(dataset)
    trainer = WholeSFTTrainer(
        model=model, args=args, train_dataset=dataset, processing_class=processor, peft_config=adapter
    )
    trainer.add_callback(MetricsFile())
    say_steps_in_lines(trainer)
    return trainer


def _without_images(dataset: datasets.Dataset) -> datasets.Dataset:
    """Return rows for a model of text.

    Raises:
        ValueError: if some have images.
    """
    shown = sum(bool(paths) for paths in dataset.with_format("arrow")["images"])
    if shown:
        raise ValueError(f"{shown} of {len(dataset)} rows have images, but the model reads text only")
    return dataset.remove_columns("images")


def run_sft(model: str | PreTrainedModel, processor: Any, dataset: datasets.Dataset, args: SFTConfig) -> SFTTrainer:
    """Fine-tune on the rows of ``sft_dataset``, save model and processor to ``args.output_dir``.

    The loss is the cross-entropy of the responses only, and no row is ever cut: a row with an image that loses
    tokens no longer matches its image features.
    """
    trainer = _sft_trainer(model, processor, dataset, args)
    trainer.train()
    trainer.save_model(args.output_dir)
    with saving(str(args.output_dir)):
        processor.save_pretrained(args.output_dir)
    return trainer


def fine_tune_on_cpu(
    model: str,
    rows: Sequence[tuple[Sequence[str], str, str]],
    folder: str | Path,
    *,
    batch_size: int,
    learning_rate: float,
    seed: int = 0,
    in_order: bool = False,
) -> None:
    """Fine-tune a small model for one epoch on (image paths, question text, response) rows, and save it."""
    steps = math.ceil(len(rows) / batch_size)
    args = cpu_sft_settings(
        folder, steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed, in_order=in_order
    )
    run_sft(load_model(model), load_processor(model), sft_dataset(rows), args)


def cpu_sft_settings(
    folder: str | Path, *, steps: int, batch_size: int, learning_rate: float, seed: int = 0, in_order: bool = False
) -> SFTConfig:
    """Return settings for one epoch on a CPU: cosine schedule, float32, no checkpoints.

    Args:
        folder: where the model is saved.
        steps: how many there will be; warm-up takes half of them at most, and every tenth is logged at least.
        batch_size: rows per step.
        learning_rate: peak, after a short warm-up.
        seed: of the order of rows.
        in_order: take the rows in the order given instead of shuffling them.
    """
    settings = {
        "output_dir": str(folder),
        "per_device_train_batch_size": batch_size,
        "num_train_epochs": 1,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": min(_WARM_UP, steps // 2),
        "weight_decay": 0.01,
        "adam_beta2": 0.98,
        "seed": seed,
        "train_sampling_strategy": "sequential" if in_order else "random",
        "logging_steps": min(_LOGGED_EVERY, max(steps // 10, 1)),
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "activation_checkpointing": False,
    }
    return dataclasses.replace(settings_as_written(SFTConfig, settings))
