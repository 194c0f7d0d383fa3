"""Run by two processes: a trainer whose second process has rows without images; notes what it is told."""

import os
from pathlib import Path

from datasets import load_from_disk

from ptdpo.data.dataset import readable
from ptdpo.models import load_processor
from tests.train.helpers import make_trainer


def main(model, folder):
    """Write what training ends with."""
    rows = load_from_disk(f"{folder}/rows").with_transform(readable)
    settings = {"gradient_accumulation_steps": 1, "shuffle_dataset": False, "ddp_timeout": 60}
    trainer = make_trainer(f"{folder}/run", model, load_processor(model), rows, **settings)
    rank = trainer.accelerator.process_index
    made = trainer._generate_and_score_completions
    blind = [{"images": []}] if rank else [{}]
    trainer._generate_and_score_completions = lambda inputs: made([{**row, **blind[0]} for row in inputs])
    try:
        trainer.train()
    except ValueError as error:
        Path(folder, f"{os.environ['RANK']}.txt").write_text(str(error))
