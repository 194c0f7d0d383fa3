"""Planned operations against those that torch counts in a real step, and what each setting changes."""

import dataclasses
from pathlib import Path

import pytest
from benchmarks import plan as measured

from ptdpo.config import read_recipe
from ptdpo.models import load_processor
from ptdpo.train.memory.advice import run_of
from ptdpo.train.memory.terms import Workload
from ptdpo.train.work.phases import Lengths, Rows, mean_lengths, pairs_of, phases_of, tutored_share

RECIPE = Path(__file__).parents[3] / "recipes" / "qwen3_vl_2b_ptd_grpo.yaml"


def run(*changes, **sizes):
    return run_of(read_recipe(RECIPE, changes), 8, 80, **{"prompt": 1000, "response": 500, "image": 256, **sizes})


def flops(planned, **given):
    return {phase.name: phase.flops for phase in phases_of(planned, Lengths(planned.workload, **given))}


@pytest.mark.parametrize("arm", ["PTD-GRPO", "GRPO, plain layout"])
def test_a_real_step_takes_what_is_planned(tmp_path, arm):
    path, rows = measured.material(tmp_path, 64, 64)
    preset, settings = measured.ARMS[arm]
    trainer = measured.counted_step(path, rows, load_processor(path), 24, tmp_path / "run", preset, **settings)
    planned, held = measured.planned_of(trainer)
    assert trainer.flops.keys() == {"rollout", "scoring", "update", *(["teacher"] if preset == "ptd-grpo" else [])}
    for phase, taken in trainer.flops.items():
        assert planned[phase] == pytest.approx(taken, rel=0.1), phase
    for term, taken in measured.held_of(trainer).items():
        assert held[term] == pytest.approx(taken, rel=0.1), term


def test_pairs_by_hand():
    rows = Rows(prompts=2, rows=6, prompt=10, response=4, image=0)
    assert pairs_of(rows, shared=False, causal=False) == 6 * 14**2
    assert pairs_of(rows, shared=False, causal=True) == 6 * 14**2 / 2
    assert pairs_of(rows, shared=True, causal=True) == 2 * 50 + 6 * (40 + 8)
    assert pairs_of(rows, shared=True, causal=False) == 2 * 100 + 6 * (40 + 16)
    # Four blocks of 128 queries see 1, 2, 3 and 4 of the blocks of their own response.
    long = dataclasses.replace(rows, response=512)
    assert pairs_of(long, shared=True, causal=False) == 2 * 100 + 6 * (5120 + 128 * 128 * (1 + 2 + 3 + 4))


def test_scoring_is_of_the_policy_for_vllm_or_old_rollouts_and_of_the_reference():
    both, reference = flops(run())["scoring"], flops(run("use_vllm=false", "generation_batch_size=1024"))["scoring"]
    assert both == pytest.approx(2 * 3 * reference)
    assert flops(run("beta=0", "use_vllm=false", "generation_batch_size=1024"))["scoring"] == 0
    assert flops(run("use_vllm=false"))["scoring"] == pytest.approx(both)


def test_the_teacher_reads_what_its_selection_says():
    half = flops(run())["teacher"]
    assert flops(run(), failed=0.0)["teacher"] == 0
    assert half < flops(run("tutoring_select=every"))["teacher"] < 2 * half
    assert flops(run("tutoring_weight=0"))["teacher"] == 0
    assert flops(run("tutoring_context=sibling", "tutoring_contrast=question", "tutoring_use=shift"))[
        "teacher"
    ] == pytest.approx(2 * half)
    assert tutored_share(run("tutoring_select=succeeded"), 0.75) == 0.25


def test_another_teacher_has_its_own_size(tiny_path):
    assert flops(run(f"tutoring_teacher={tiny_path}"))["teacher"] < flops(run())["teacher"] / 1000


def test_an_adapter_computes_no_gradients_of_the_weights():
    whole, adapter = flops(run())["update"], flops(run("lora.rank=8"))["update"]
    # Four passes are three with checkpointing: forward, forward again, inputs, weights.
    assert 0.7 < adapter / whole < 0.8
    off = run("activation_checkpointing=false", "gradient_checkpointing=false")
    assert flops(off)["update"] < 0.8 * whole
    assert flops(run("num_iterations=2", "generation_batch_size=1024"))["update"] == pytest.approx(2 / 3 * whole)


def test_experts_are_not_planned(tmp_path):
    planned = run()
    text = planned.sizes.text
    text.num_experts = 8
    with pytest.raises(ValueError, match="does not know how many experts a token meets"):
        flops(planned)


def test_means_are_no_longer_than_the_longest():
    assert mean_lengths(Workload(10, 20, 5), prompt=4).load == Workload(4, 20, 4)
    with pytest.raises(ValueError, match="--mean-response 21: the longest has 20 tokens"):
        mean_lengths(Workload(10, 20, 5), response=21)
