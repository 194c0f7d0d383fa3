"""From a recipe to a finished run: check, train, resume."""

import os
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers.trainer_utils import get_last_checkpoint

from ptdpo.config import SFT, Recipe
from ptdpo.data.dataset import rl_dataset
from ptdpo.data.load import LoadedData, instruction_of, load_data
from ptdpo.models import load_processor
from ptdpo.train.plan import check_contexts, check_images, images_folder, resolved_settings
from ptdpo.train.settings import PTDConfig
from ptdpo.train.sft import make_sft_trainer
from ptdpo.train.trainer import PTDTrainer


def train_recipe(recipe: Recipe) -> Path:
    """Train as the recipe says, from the newest checkpoint of the output folder if there is one.

    Returns:
        The folder with the trained model and its processor.

    Raises:
        ValueError: on any mistake in the recipe or its data, or if another number of processes was launched.
    """
    settings = resolved_settings(recipe)
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != recipe.processes:
        raise ValueError(
            f"the recipe is laid out for {recipe.processes} processes but {launched} were launched: use "
            f"torchrun --nproc-per-node, or set processes={launched} and adjust the batch sizes"
        )
    processor = load_processor(recipe.model)
    data = load_data(recipe.data, processor=processor, image_folder=images_folder(settings))
    check_images(recipe.processes, data)
    if data.report:
        Console(stderr=True).print(f"dropped: {data.report}")
    make = make_sft_trainer if recipe.preset == SFT else _make_rl_trainer
    trainer = make(recipe, settings, data, processor, _lora(recipe))
    folder = str(trainer.args.output_dir)
    checkpoint = get_last_checkpoint(folder) if Path(folder).is_dir() else None
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
        trainer.save_model(folder)
        if trainer.accelerator.is_main_process:
            processor.save_pretrained(folder)
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return Path(folder)


def _make_rl_trainer(
    recipe: Recipe, settings: dict[str, Any], data: LoadedData, processor: Any, adapter: Any
) -> PTDTrainer:
    check_contexts(settings, data)
    rows = rl_dataset(data.problems, data.hints, instruction=instruction_of(recipe.data), solutions=data.solutions)
    args = PTDConfig(**settings)
    return PTDTrainer(recipe.model, None, args, train_dataset=rows, processing_class=processor, peft_config=adapter)


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
