"""Run by torchrun: a few optimiser steps of one job under an engine, with rollouts that do not depend on it."""

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import DistributedType, PartialState
from datasets import load_from_disk
from peft import LoraConfig
from safetensors.torch import save_file

from ptdpo.data.dataset import readable
from ptdpo.models import load_processor
from tests.train.distributed_worker import SETTINGS, fixed_rollouts
from tests.train.helpers import make_trainer, parameters

STEPS = 3


def engine_settings(stage):
    """Return the trainer's settings for a ZeRO stage; ``None``: no DeepSpeed."""
    if stage is None:
        return {}
    config = {
        "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": 0.0,
        "zero_allow_untested_optimizer": True,
        # Nothing is small enough to be kept whole, so that every parameter is partitioned.
        "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
    }
    return {"deepspeed": config, "use_cpu": False}


def allow_cpu():
    """Let accelerate start DeepSpeed without a GPU: by itself it would start one process."""
    PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_CPU)


def whole(model, stage):
    """Let every process see whole parameters."""
    if stage != 3:
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(model.parameters()))


def main():
    job = json.loads(Path(sys.argv[1]).read_text())
    rows, processor = load_from_disk(job["rows"]).with_transform(readable), load_processor(job["model"])
    stage = job["stage"]
    if stage is not None:
        allow_cpu()
    for name, run in job["runs"].items():
        changes = {**SETTINGS, "per_device_train_batch_size": 4, "max_steps": STEPS, "logging_steps": 1}
        changes |= {**run["settings"], **engine_settings(stage)}
        adapter = LoraConfig(r=4, target_modules=["q_proj", "v_proj"]) if run.get("adapter") else None
        folder = f"{job['out']}/{name}"
        trainer = make_trainer(folder, job["model"], processor, rows, peft_config=adapter, **changes)
        assert trainer.accelerator.num_processes == 2
        assert bool(trainer.is_deepspeed_enabled) == (stage is not None)
        generate = trainer._generate_single_turn
        fixed_rollouts(trainer, run["pattern"])
        if run.get("generate"):
            trainer._generate_single_turn = generate
        start = parameters(trainer)
        trainer.train()
        with whole(trainer.model, stage):
            trained = parameters(trainer)
        if trainer.accelerator.is_main_process:
            save_file(start, f"{folder}-start.safetensors")
            save_file(trained, f"{folder}.safetensors")
            Path(f"{folder}.json").write_text(json.dumps(trainer.state.log_history))
    torch.distributed.destroy_process_group()
    # gloo's threads now and then keep a process from ending, as soon as what holds them is freed: leave with it.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
