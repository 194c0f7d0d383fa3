"""``ptdpo plan``: what it prints, and its exit code."""

from pathlib import Path

import typer
import yaml

from ptdpo.commands.plan import plan

RECIPES = Path(__file__).parents[2] / "recipes"


def planned(capsys, recipe, *overrides, gpus=None, memory=80.0, prompt=None, response=None, image=1024):
    code = 0
    try:
        plan(Path(recipe), list(overrides), gpus, memory, prompt, response, image)
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
    code, said = planned(capsys, tmp_path / "r.yaml", "num_generations=8", "per_device_train_batch_size=8", gpus=1)
    assert code == 0
    assert "one on 1 GPUs" not in said
    assert "keys and values of generate" in said
    assert "vLLM" not in said
