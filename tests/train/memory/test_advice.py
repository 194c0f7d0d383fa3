"""Recipes that are said to fit do, and those that do not get the fewest changes with which they do."""

import dataclasses
import json
from pathlib import Path

import pytest

from ptdpo.config import read_recipe
from ptdpo.train.memory.advice import advice_for, room_of_vllm, run_of
from ptdpo.train.memory.terms import memory_plan

RECIPES = Path(__file__).parents[3] / "recipes"
PAPER = ["qwen3_vl_2b_ptd_grpo", "qwen3_vl_4b_ptd_grpo", "qwen3_vl_8b_ptd_grpo"]


def run(name, *changes, gpus=8, **sizes):
    return run_of(read_recipe(RECIPES / f"{name}.yaml", changes), gpus, sizes.pop("memory", 80), **sizes)


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_recipes_fit_what_they_are_laid_out_for(name):
    planned = run(name)
    assert memory_plan(planned).fits
    assert advice_for(planned).words == ()
    tokens, rows = room_of_vllm(planned)
    assert tokens // (8192 + 4096) == rows >= 1


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("qwen3_vl_2b_ptd_grpo", ["fsdp=null"], ("fsdp=true",)),
        ("qwen3_vl_4b_ptd_grpo", ["fsdp=null"], ("fsdp=true",)),
        ("qwen3_vl_8b_ptd_grpo", ["vllm_enable_sleep_mode=false"], ("vllm_enable_sleep_mode=true",)),
    ],
)
def test_the_fewest_changes(name, changes, words):
    planned = run(name, *changes)
    assert not memory_plan(planned).fits
    advice = advice_for(planned)
    assert advice.words == words
    assert advice.plan.fits


def test_several_changes_or_none_that_is_enough():
    planned = run(
        PAPER[2], "vllm_enable_sleep_mode=false", "activation_checkpointing=false", "gradient_checkpointing=false"
    )
    assert set(advice_for(planned).words) == {"vllm_enable_sleep_mode=true", "activation_checkpointing=true"}
    little = advice_for(dataclasses.replace(planned, memory=20e9))
    assert not little.plan.fits
    assert {"vllm_enable_sleep_mode=true", "activation_checkpointing=true", "vllm_mode=server"} <= set(little.words)


def test_lengths_can_be_said():
    short = run(PAPER[1], prompt=1000, response=500, image=0)
    assert (short.workload.prompt, short.workload.response, short.workload.image) == (1000, 500, 0)
    assert memory_plan(short).most < memory_plan(run(PAPER[1])).most


def test_an_adapter_and_another_teacher(tiny_path):
    assert run(PAPER[1], "lora.rank=16").rank == 16
    taught = run(PAPER[1], f"tutoring_teacher={tiny_path}")
    assert 0 < taught.taught.parameters < 1e6


@pytest.mark.parametrize(("stage", "sharding"), [(1, "zero1"), (2, "zero2"), (3, "zero3"), (0, "ddp")])
def test_deepspeed_says_how_weights_are_parted(tmp_path, stage, sharding):
    (tmp_path / "ds.json").write_text(json.dumps({"zero_optimization": {"stage": stage}}))
    assert run(PAPER[1], "fsdp=null", f"deepspeed={tmp_path}/ds.json").sharding == sharding


def test_what_plan_does_not_know_is_said(tmp_path):
    (tmp_path / "ds.json").write_text(json.dumps({"zero_optimization": {"stage": 4}}))
    with pytest.raises(ValueError, match=r"there is no ZeRO stage 4; plan knows 0 to 3"):
        run(PAPER[1], "fsdp=null", f"deepspeed={tmp_path}/ds.json")
    with pytest.raises(ValueError, match="preset=sft: plan is for recipes that make rollouts"):
        run("demo/sft", gpus=1)
