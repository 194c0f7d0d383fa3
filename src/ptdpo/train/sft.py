"""Supervised fine-tuning on accepted solutions, through TRL's SFTTrainer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
from transformers import PreTrainedModel
from trl import SFTConfig, SFTTrainer

from ptdpo.data.dataset import sft_dataset
from ptdpo.models import load_model, load_processor


def run_sft(model: str | PreTrainedModel, processor: Any, dataset: datasets.Dataset, args: SFTConfig) -> SFTTrainer:
    """Fine-tune on the rows of ``sft_dataset``, save model and processor to ``args.output_dir``.

    The loss is the cross-entropy of the responses only, and no row is ever cut: a row with an image that loses
    tokens no longer matches its image features.
    """
    args.max_length = None
    args.completion_only_loss = True
    trainer = SFTTrainer(model=model, args=args, train_dataset=dataset, processing_class=processor)
    trainer.train()
    trainer.save_model(args.output_dir)
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
    args = cpu_sft_settings(folder, batch_size=batch_size, learning_rate=learning_rate, seed=seed, in_order=in_order)
    run_sft(load_model(model), load_processor(model), sft_dataset(rows), args)


def cpu_sft_settings(
    folder: str | Path, *, batch_size: int, learning_rate: float, seed: int = 0, in_order: bool = False
) -> SFTConfig:
    """Return settings for one epoch on a CPU: cosine schedule, float32, no checkpoints.

    Args:
        folder: where the model is saved.
        batch_size: rows per step.
        learning_rate: peak, after a short warm-up.
        seed: of the order of rows.
        in_order: take the rows in the order given instead of shuffling them.
    """
    return SFTConfig(
        output_dir=str(folder),
        per_device_train_batch_size=batch_size,
        num_train_epochs=1,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=30,
        weight_decay=0.01,
        adam_beta2=0.98,
        seed=seed,
        train_sampling_strategy="sequential" if in_order else "random",
        logging_steps=25,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        activation_checkpointing=False,
    )
