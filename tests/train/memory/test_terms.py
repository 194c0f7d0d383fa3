"""The terms of a plan: what they sum to at real sizes that were measured, and what each setting changes."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from ptdpo.presets import preset_settings
from ptdpo.train import PTDConfig
from ptdpo.train.layout import layout_of
from ptdpo.train.memory.sizes import published_config, sizes_of
from ptdpo.train.memory.terms import BESIDE, Run, Workload, memory_plan
from ptdpo.train.settings import settings_as_written
from tests.train.helpers import make_trainer

MEASURED = Path(__file__).parents[3] / "benchmarks" / "results" / "gpu_nvidia_h100_80gb_hbm3.json"
CHECKPOINTING = {"gradient_checkpointing": True, "activation_checkpointing": True}


@pytest.fixture(scope="module")
def sizes():
    return sizes_of(published_config("Qwen/Qwen3-VL-2B-Thinking"))


def made(sizes, preset="ptd-grpo", sharding="ddp", gpus=8, load=(1000, 500, 256), rank=0, **settings):
    known = {field.name for field in dataclasses.fields(PTDConfig)}
    given = {
        **preset_settings(preset), "bf16": True, "num_generations": 8, "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2, **{k: v for k, v in CHECKPOINTING.items() if k in known}, **settings,
    }  # fmt: skip
    written = settings_as_written(PTDConfig, given)
    layout = layout_of(written, gpus)
    return memory_plan(Run(sizes, written, layout, sharding, Workload(*load), 80e9, rank))


def term(plan, name, phase="update"):
    return sum(getattr(each, phase) for each in plan.terms if each.name == name)


@pytest.mark.parametrize(
    "row", json.loads(MEASURED.read_text())["steps"], ids=lambda row: f"{row['what']}{row['response']}"
)
def test_the_peak_of_a_measured_step(sizes, row):
    """Steps of this size on an H100, random weights and replayed rollouts; fragments and context are left out."""
    arms = {"GRPO": ("grpo", False), "GRPO, shared prefix": ("grpo", True), "PTD-GRPO": ("ptd-grpo", True)}
    preset, shares = arms.get(row["what"], ("ptd-grpo", False))
    plan = made(
        sizes, preset, "one", 1, (row["prompt"], row["response"], 144), share_prefix=shares, beta=0.01,
        per_device_train_batch_size=16, gradient_accumulation_steps=1,
    )  # fmt: skip
    planned = (plan.phases[2] - BESIDE) / 1e9
    assert planned == pytest.approx(row["peak GB"], rel=0.02 if shares else 0.07)
    assert (term(plan, "weights") + term(plan, "reference and teacher")) / 1e9 == pytest.approx(
        row["GB before"], rel=0.01
    )


def test_weights_gradients_and_optimiser_are_those_of_a_real_run(tmp_path, tiny_path, processor, train_rows):
    trainer = make_trainer(tmp_path, tiny_path, processor, train_rows, max_steps=1, optim="adamw_torch")
    trainer.train()

    def held(tensors):
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    states = [value for state in trainer.optimizer.state.values() for name, value in state.items() if name != "step"]
    args = trainer.args
    plan = memory_plan(Run(sizes_of(trainer.model.config), args, layout_of(args, 1), "one", Workload(20, 8, 4), 80e9))
    assert term(plan, "weights") == held(trainer.model.parameters())
    assert term(plan, "reference and teacher") == held(trainer.ref_model.parameters())
    assert term(plan, "optimiser") == held(states)
    assert plan.run.gradients == held(trainer.model.parameters())


@pytest.mark.parametrize(
    ("sharding", "weights", "optimiser", "gradients"),
    [
        ("ddp", 4, 8, 4),
        ("fsdp", 4 / 8, 8 / 8, 4 / 8),
        ("zero1", 2, 12 / 8, 4),
        ("zero2", 2, 12 / 8, 4 / 8),
        ("zero3", 2 / 8, 12 / 8, 4 / 8),
    ],
)
def test_what_a_layout_parts_among_gpus(sizes, sharding, weights, optimiser, gradients):
    plan = made(sizes, sharding=sharding)
    every = sizes.parameters
    assert term(plan, "weights") == pytest.approx(weights * every)
    assert term(plan, "optimiser") == pytest.approx(optimiser * every)
    assert term(plan, "gradients") == pytest.approx(gradients * every)
    assert term(plan, "buckets of gradients (DDP)") == (4 * every if sharding == "ddp" else 0)
    assert (term(plan, "gathered weights") > 0) == (sharding in ("fsdp", "zero3"))


def test_checkpointing_keeps_what_comes_into_blocks(sizes):
    off = dict.fromkeys(CHECKPOINTING, False)
    known = {field.name for field in dataclasses.fields(PTDConfig)}
    off = {name: value for name, value in off.items() if name in known}
    kept, whole = term(made(sizes), "activations kept"), term(made(sizes, **off), "activations kept")
    # 28 blocks of 2,048 float32 numbers for 1,000 + 8 x 500 tokens; 24 of 1,024 in 16 bits for 4 x 256 patches.
    assert kept == 28 * 2048 * 4 * 5000 + 24 * 1024 * 2 * 1024
    assert whole > 5 * kept


def test_a_budget_of_tokens_reads_whole_groups(sizes):
    whole = made(sizes, per_device_train_batch_size=32)
    parts = made(sizes, per_device_train_batch_size=32, micro_batch_tokens=10_000)
    assert (whole.run.rows, parts.run.rows) == (32, 16)
    assert made(sizes, per_device_train_batch_size=32, micro_batch_tokens=10).run.rows == 8
    assert term(parts, "activations kept") == pytest.approx(term(whole, "activations kept") / 2)


def test_an_adapter_needs_no_reference_and_little_for_its_optimiser(sizes):
    plan = made(sizes, rank=16)
    assert term(plan, "reference and teacher") == 0
    assert term(plan, "optimiser") == 8 * sizes.adapter(16) < 8 * sizes.parameters / 50


def test_models_beside_the_policy(sizes):
    every = 4 * sizes.parameters

    def beside(**settings):
        return term(made(sizes, **settings), "reference and teacher")

    assert beside() == beside(beta=0.0) == beside(tutoring_teacher="current") == every
    assert beside(beta=0.0, tutoring_teacher="current") == 0
    # The average's weights, the model that has them, and the reference.
    assert beside(tutoring_teacher="ema") == 3 * every


def test_vllm_keeps_its_share_unless_it_sleeps(sizes):
    vllm = {"use_vllm": True, "vllm_mode": "colocate", "vllm_gpu_memory_utilization": 0.4}
    awake, asleep = made(sizes, **vllm), made(sizes, **vllm, vllm_enable_sleep_mode=True)
    assert term(awake, "vLLM") == term(awake, "vLLM", "rollout") == 32e9
    assert term(asleep, "vLLM") == 0
    assert term(asleep, "vLLM", "rollout") == 32e9
    assert term(made(sizes, **{**vllm, "vllm_mode": "server"}), "vLLM", "rollout") == 0
    assert term(made(sizes), "keys and values of generate", "rollout") > 16 * 1500 * 28 * 2 * 8 * 128 * 2


def test_pixels_stay_for_every_rollout(sizes):
    """256 tokens are 1,024 patches of 3 x 2 x 16 x 16 float32 numbers, for 16 rollouts of a process."""
    assert term(made(sizes), "pixels of all rollouts") == 16 * 1024 * 1536 * 4


def test_the_dense_head_holds_logits(sizes):
    dense, fused = (term(made(sizes, head=head), "one block, or the head") for head in ("dense", "fused"))
    assert dense == 4 * 4000 * 151_936 * 4 > fused


def test_numbers_are_16_bits_wide_where_weights_are_gathered(sizes):
    assert made(sizes, sharding="fsdp").run.numbers.weights == torch.bfloat16
    assert made(sizes).run.numbers.weights == torch.float32
    assert made(sizes, bf16=False).run.numbers.products == torch.float32


def test_what_the_fused_head_holds(sizes):
    """5,000 tokens of which 4,000 are scored, 2,048 wide: states, kept shares, one buffer, the gradient of the head."""
    states = 5000 * 2048 * 2 * 2 + 4000 * 2048 * (2 * 2 + 2 * 2)
    shares, buffer, gradients = 4000 * 151_936 * 2, 320_000_000, 151_936 * 2048 * (2 + 4) + 4000 * 2048 * 2
    assert term(made(sizes, sharding="fsdp"), "one block, or the head") == states + shares + buffer + gradients


def test_gradients_come_as_activations_go_unless_steps_are_accumulated(sizes):
    once = made(sizes, sharding="one", gpus=1, load=(100, 8, 0), gradient_accumulation_steps=1)
    more = made(sizes, sharding="one", gpus=1, load=(100, 8, 0))
    names = ("gradients", "activations kept", "one block, or the head")
    passes = [sum(term(plan, name) for name in names) for plan in (once, more)]
    # Of so few tokens little is kept: at the end all gradients are there, and one block.
    assert 4 * sizes.parameters < passes[0] < passes[1]
    assert passes[1] - passes[0] >= term(once, "activations kept")
