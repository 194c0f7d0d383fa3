"""Supervised fine-tuning on accepted solutions, through TRL's SFTTrainer."""

from typing import Any

import datasets
from transformers import PreTrainedModel
from trl import SFTConfig, SFTTrainer


def run_sft(
    model: str | PreTrainedModel, processor: Any, dataset: datasets.Dataset, args: SFTConfig
) -> SFTTrainer:
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
