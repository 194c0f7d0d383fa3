"""Run by two processes: one optimiser step per pattern of failures, with rollouts that do not depend on the process."""

import json
import os
from pathlib import Path

import torch
from datasets import load_from_disk
from safetensors.torch import save_file

import ptdpo.train.trl.token_batches
from ptdpo.data.dataset import readable
from ptdpo.models import load_processor
from ptdpo.train.trl.token_batches import split_by_tokens
from tests.train.helpers import make_trainer

SETTINGS = {
    "optim": "sgd",
    "learning_rate": 0.5,
    "max_grad_norm": 0.0,
    "weight_decay": 0.0,
    "tutoring_weight": 5.0,
    "gradient_accumulation_steps": 1,
    "num_generations": 4,
    "max_steps": 1,
    "shuffle_dataset": False,
    "record_steps": 1,
}


# What a step does besides, by the first word of its name.
PAPO = {"preset": "papo-printed", "perception_weight": 1.0, "masked_entropy_weight": 1.0, "tutoring_weight": 0.0}
METHODS = {
    "papo": PAPO,
    "papo_dapo": {**PAPO, "loss_type": "dapo"},
    "hdpo": {"preset": "hdpo"},
    "dapo": {"preset": "dapo", "tutoring_weight": 0.0},
    "rlcsd": {"preset": "rlcsd", "tutoring_shift_scale": 0.5},
    "idle": {"preset": "ptd-gspo", "skip_idle_rows": True, "record_tokens": 0},
    "idle_grpo": {"preset": "gspo", "skip_idle_rows": True, "record_tokens": 0, "tutoring_weight": 0.0},
    "idle_dapo": {"preset": "ptd-dapo", "resampling_rounds": 0, "skip_idle_rows": True, "record_tokens": 0},
    "scaf": {"preset": "scaf-grpo", "hinted_after": 0, "tutoring_weight": 0.0},
    "v_zero": {"preset": "v-zero", "tutoring_evidence_gate": 1.5},
    "hints": {"preset": "ptd-grpo", "tutoring_context": "hints"},
    "seen": {"preset": "ptd-grpo", "tutoring_images": "both"},
}


def settings_of(name):
    """Return the settings of a step."""
    return {**SETTINGS, **METHODS.get(name.partition("-")[0], {})}


def fixed_rollouts(trainer, pattern):
    """Replace generation and accuracy by a fixed table over the rollouts of all processes.

    What is drawn besides depends on its prompt and its place in the group, and every second one is right.
    """
    processes, rank = trainer.accelerator.num_processes, trainer.accelerator.process_index
    rows = 8 // processes
    mine = slice(rank * rows, (rank + 1) * rows)
    generator = torch.Generator().manual_seed(5)
    # Unequal lengths: the mean over tokens differs from a mean of means.
    table = [torch.randint(20, 60, (3 + n,), generator=generator).tolist() for n in range(8)][mine]

    drawn, graded = [], []

    def generate(prompt_ids, *_, **__):
        drawn.append(prompt_ids)
        if len(drawn) == 1:
            return table, None
        return [[20 + sum(ids) % 40, *range(20, 24 + n % 4)] for n, ids in enumerate(prompt_ids)], None

    def accuracy_reward(completions, **_):
        graded.append(completions)
        return (
            [float(right) for right in pattern[mine]] if len(graded) == 1 else [n % 2 for n in range(len(completions))]
        )

    trainer._generate_single_turn = generate
    trainer.reward_funcs[0] = accuracy_reward


def unequal_parts(groups, *_, **__):
    """In place of the split by tokens: one process scores its rows in two parts, the other in one."""
    rows = list(range(len(groups)))
    return [rows] if int(os.environ["RANK"]) == 0 else [rows[:3], rows[3:]]


def main(job):
    job = json.loads(Path(job).read_text())
    rows, processor = load_from_disk(job["rows"]).with_transform(readable), load_processor(job["model"])
    for name, pattern in job["patterns"].items():
        settings = {**settings_of(name), "per_device_train_batch_size": 4}
        if name.endswith("in-parts"):
            settings["micro_batch_tokens"] = 1
            ptdpo.train.trl.token_batches.split_by_tokens = unequal_parts
        else:
            ptdpo.train.trl.token_batches.split_by_tokens = split_by_tokens
        trainer = make_trainer(f"{job['out']}/{name}", job["model"], processor, rows, **settings)
        assert trainer.accelerator.num_processes == 2
        fixed_rollouts(trainer, pattern)
        trainer.train()
        if trainer.accelerator.is_main_process:
            state = {k: v.contiguous().clone() for k, v in trainer.model.named_parameters()}
            save_file(state, f"{job['out']}/{name}.safetensors")
            result = {"tokens": trainer.method.step.tutored_tokens, **trainer.state.log_history[0]}
            Path(job["out"], f"{name}.json").write_text(json.dumps(result))
    torch.distributed.destroy_process_group()
