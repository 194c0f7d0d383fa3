"""Seconds from operations and bytes: by hand, and what a card showed."""

import dataclasses
import json
import math
from pathlib import Path

import pytest

from ptdpo.config import read_recipe
from ptdpo.train.memory.advice import run_of
from ptdpo.train.memory.sizes import published_config, sizes_of
from ptdpo.train.work.cards import Card, gpus_named
from ptdpo.train.work.hours import Efficiencies, efficiencies, time_of
from ptdpo.train.work.phases import Lengths, phases_of
from tests.train.memory.test_terms import MEASURED, made

RECIPE = Path(__file__).parents[3] / "recipes" / "qwen3_vl_2b_ptd_grpo.yaml"
H100, STATED = gpus_named("H100").card, Efficiencies()


def run(*changes):
    return run_of(read_recipe(RECIPE, changes), 8, 80, prompt=1000, response=500, image=256)


def seconds(planned, card=H100, assumed=STATED, **given):
    made = time_of(planned, card, assumed, Lengths(planned.workload), **given)
    return {each.phase.name: each.seconds for each in made.phases}, made


@pytest.mark.parametrize(("shared", "reached"), [(True, 0.25), (False, 0.40)])
def test_the_stated_efficiencies_are_those_of_measured_steps(shared, reached):
    """From two lengths of response, so that what does not grow with them is left out; an H100, two prompts x 8."""
    sizes = sizes_of(published_config("Qwen/Qwen3-VL-2B-Thinking"))
    rows = [row for row in json.loads(MEASURED.read_text())["steps"] if row["what"].startswith("GRPO")]
    flops, taken = [], []
    for row in (row for row in rows if ("shared" in row["what"]) == shared):
        planned = made(
            sizes, "grpo", "one", 1, (row["prompt"], row["response"], 144), share_prefix=shared, beta=0.01,
            per_device_train_batch_size=16, gradient_accumulation_steps=1,
        ).run  # fmt: skip
        phases = {phase.name: phase.flops for phase in phases_of(planned, Lengths(planned.workload))}
        flops.append(phases["scoring"] + phases["update"])
        taken.append(row["seconds"])
    assert (flops[1] - flops[0]) / (taken[1] - taken[0]) / H100.flops == pytest.approx(reached, rel=0.1)
    assert getattr(Efficiencies(), "packed" if shared else "plain") == reached


def test_phases_take_their_operations_over_what_the_cards_reach():
    planned = run()
    taken, made = seconds(planned, assumed=Efficiencies(packed=0.5))
    phases = {phase.name: phase.flops for phase in phases_of(planned, Lengths(planned.workload))}
    for name in ("scoring", "teacher", "update"):
        assert taken[name] == pytest.approx(phases[name] / (8 * H100.flops * 0.5))
    assert taken["rollout (prompts)"] == pytest.approx(phases["rollout (prompts)"] / (8 * H100.flops * 0.4))
    assert made.steps == 3
    assert made.step_seconds == pytest.approx(sum(taken.values()) / 3)
    assert made.step_flops == pytest.approx(sum(phases.values()) / 3)


def test_responses_are_written_as_fast_as_weights_and_keys_are_read():
    planned = run("vllm_gpu_memory_utilization=0.9")
    slow = Card("slow", 80, H100.flops, 1e11)
    taken, made = seconds(planned, slow)
    assert made.at_once == 384
    work = 2 * (1_409_286_144 + 311_164_928)
    keys = 384 * (1000 + 250) * 28 * 8 * 128 * 2 * 2
    assert taken["rollout (responses)"] == pytest.approx(500 * (work + keys) / (1e11 * 0.6))
    assert seconds(planned)[0]["rollout (responses)"] == pytest.approx(500 * (work + keys) / (3.35e12 * 0.6))
    floor = seconds(planned, assumed=Efficiencies(step_ms=100))[0]
    assert floor["rollout (responses)"] == pytest.approx(500 * 0.1)


def test_less_room_means_more_turns_and_none_no_hours():
    many, few = seconds(run("vllm_gpu_memory_utilization=0.9"))[1], seconds(run("vllm_gpu_memory_utilization=0.2"))[1]
    assert few.at_once < many.at_once == 384
    assert few.phases[1].seconds > many.phases[1].seconds
    none = dataclasses.replace(run(), memory=10e9)
    assert seconds(none)[1].at_once == 0
    assert math.isinf(seconds(none)[1].step_seconds)


def test_a_server_samples_on_cards_of_its_own():
    served = run("vllm_mode=server")
    once, twice = seconds(served)[0], seconds(served, samplers=16)[0]
    assert twice["rollout (prompts)"] == once["rollout (prompts)"] / 2
    assert twice["rollout (responses)"] < once["rollout (responses)"]
    assert twice["update"] == once["update"]


def test_efficiencies_are_said():
    assert efficiencies(["packed=0.3", "step_ms=8"]) == Efficiencies(packed=0.3, step_ms=8)
    for given, message in (
        ("speed=1", "names are packed, plain, prompts, decoding, step_ms"),
        ("packed=fast", "'fast' is no number"),
        ("packed=1.5", "must be above 0 and at most 1"),
        ("step_ms=0", "must be above 0$"),
    ):
        with pytest.raises(ValueError, match=f"--assume {given}: {message}"):
            efficiencies([given])


def test_cards_by_name():
    assert gpus_named("8xH100-80GB").card.flops == 989e12
    assert (gpus_named("8xh100").count, gpus_named("A100").card.memory, gpus_named("4").count) == (8, 80, 4)
    assert gpus_named("A100-40GB").card.bandwidth == 1.555e12
    assert gpus_named("2xH100-PCIe").card.name == "H100-PCIe-80GB"
    for given, message in (
        ("8xV100", "this card is not known"), ("8xH100-94GB", "not known"), ("8 x H100", "write it as"),
        ("0xH100", "at least one"), ("0", "at least one"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"--gpus {given}: .*{message}"):
            gpus_named(given)
