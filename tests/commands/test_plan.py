"""``ptdpo plan``: what it prints, and its exit code."""

from pathlib import Path

import pytest
import typer
import yaml

from ptdpo.commands.plan import plan

RECIPES = Path(__file__).parents[2] / "recipes"


def planned(capsys, recipe, *overrides, **options):
    code = 0
    try:
        plan(Path(recipe), list(overrides), **options)
    except typer.Exit as end:
        code = end.exit_code
    return code, capsys.readouterr().out


def test_a_recipe_that_fits(capsys):
    code, said = planned(capsys, RECIPES / "qwen3_vl_4b_ptd_grpo.yaml")
    assert code == 0
    assert "4.44 billion parameters, fsdp on 8 GPUs of 80 GB" in said
    assert "prompts of 8192 tokens (1024 of images), responses of 4096" in said
    assert "vLLM has room for" in said
    assert "fits: 65.8 of 80 GB" in said


def test_one_that_does_not_is_told_what_to_change(capsys):
    code, said = planned(capsys, RECIPES / "qwen3_vl_4b_ptd_grpo.yaml", "fsdp=null")
    assert code == 1
    assert "buckets of gradients (DDP)" in said
    assert "does not fit: 171.4 of 80 GB; fits with fsdp=true: 65.8 GB" in said


def test_where_nothing_is_enough(capsys):
    code, said = planned(capsys, RECIPES / "qwen3_vl_8b_ptd_grpo.yaml", memory=24.0)
    assert code == 1
    assert "nor with vllm_mode=server" in said
    assert "take more GPUs, a smaller model, or an adapter (lora)" in said


def test_a_folder_of_ones_own_on_one_gpu(capsys, tmp_path, tiny_path):
    content = {"preset": "grpo", "model": tiny_path, "data": {"path": "none.jsonl"}, "train": {"output_dir": "x"}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(content))
    code, said = planned(capsys, tmp_path / "r.yaml", "num_generations=8", "per_device_train_batch_size=8", gpus="1")
    assert code == 0
    assert "one on 1 GPUs" not in said
    assert "keys and values of generate" in said
    assert "vLLM" not in said


def test_work_and_hours_are_split_into_phases(capsys):
    code, said = planned(
        capsys, RECIPES / "qwen3_vl_4b_ptd_grpo.yaml", gpus="8xH100-80GB", mean_prompt=800, mean_response=1500,
        assume=["packed=0.3"],
    )  # fmt: skip
    assert code == 0
    table = [[cell.strip() for cell in line.strip("│").split("│")] for line in said.splitlines() if "│" in line]
    rows = {row[0]: row for row in table if len(row) == 8}
    parts = ["rollout (prompts)", "rollout (responses)", "scoring", "teacher", "update"]
    assert list(rows) == [*parts, "in all"]
    # Responses: 3,072 of 1,500 tokens for three steps; 606 steps.
    assert rows["rollout (responses)"][1] == f"{3072 * 1500 / 3 / 1e6:.2f}"
    assert rows["rollout (responses)"][5] == f"{3072 * 1500 * 202 / 1e6:.2f}"
    minutes = sum(float(rows[name][3]) for name in parts)
    assert float(rows["in all"][3]) == pytest.approx(minutes, abs=0.03)
    assert "989 TFLOP/s 30% (packed rows)" in said
    assert "606 steps: " in said
    assert "so this is the most" not in said


def test_the_method_its_settings_and_its_schedule_are_shown(capsys):
    _, said = planned(capsys, RECIPES / "qwen3_vl_4b_ptd_grpo.yaml", "lr_scheduler_type=linear", "warmup_steps=6")
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in said.splitlines() if "│" in line]
    for row in (
        ["teacher", "frozen, shown: hint"], ["lambda (tutoring)", "0.5, constant"], ["beta (reference KL)", "0.01"],
        ["optimiser steps", "606"], ["generation_batch_size", "3072", "recipe"],
        ["loss_type", "grpo", "preset ptd-grpo"], ["1", "0", "0.5"], ["7", "1e-06", "0.5"], ["606", "1.67e-09", "0.5"],
    ):  # fmt: skip
        assert row in cells
    assert "so this is the most" in said
    assert not any(row[0] == "adam_beta1" for row in cells)
    _, said = planned(capsys, RECIPES / "qwen3_vl_4b_ptd_grpo.yaml", all_settings=True)
    assert "adam_beta1" in said
    assert "tutoring_tail" in said


def test_a_run_of_unknown_length_is_planned_by_the_step(capsys):
    recipe = RECIPES / "qwen3_vl_2b_ptd_grpo.yaml"
    _, said = planned(capsys, recipe, "data.path=my/rows")
    assert "say --problems" in said
    assert "run: million tokens" not in said
    _, said = planned(capsys, recipe, "data.path=my/rows", problems=768)
    assert "12 steps: " in said
    _, said = planned(capsys, recipe, "data.path=my/rows", "max_steps=7")
    assert "7 steps: " in said


def test_vllm_without_room_has_no_hours(capsys):
    code, said = planned(capsys, RECIPES / "qwen3_vl_8b_ptd_grpo.yaml", "vllm_gpu_memory_utilization=0.2")
    assert code == 0
    assert "vLLM has no room for a single row; raise vllm_gpu_memory_utilization" in said
