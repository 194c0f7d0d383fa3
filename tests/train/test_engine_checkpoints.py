"""Checkpoints of FSDP2 and of DeepSpeed on two gloo processes: whole, checked, and gone on from to the last bit."""

import importlib.util
import json

import pytest
import torch
import yaml
from safetensors.torch import load_file

from ptdpo.data.files import write_hints, write_problems
from ptdpo.train.checkpoints.manifest import checkpoints_in
from tests.processes import gloo_processes

pytestmark = pytest.mark.slow

SHARDED = {"fsdp": True, "fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT"}}
NO_DEEPSPEED = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed is not installed: pip install -e '.[deepspeed]'"
)


def zero(stage):
    config = dict.fromkeys(("train_micro_batch_size_per_gpu", "train_batch_size", "gradient_clipping"), "auto")
    config |= {"gradient_accumulation_steps": "auto", "zero_allow_untested_optimizer": True}
    return {
        "deepspeed": {**config, "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0}},
        "use_cpu": False,
    }


@pytest.fixture
def train(tmp_path, tiny_path, scenes):
    """Train a recipe on two processes; returns what they said."""
    write_problems(tmp_path / "p.jsonl", [scene.problem for scene in scenes])
    write_hints(tmp_path / "h.jsonl", {scene.problem.id: scene.hint for scene in scenes}, "rule")

    def run(folder, steps, engine, settings):
        recipe = {
            "preset": "ptd-grpo", "model": tiny_path, "processes": 2,
            "data": {"path": str(tmp_path / "p.jsonl"), "hints": str(tmp_path / "h.jsonl"), "instruction": "",
                     "max_prompt_tokens": 256},
            "train": {"output_dir": str(folder), "per_device_train_batch_size": 4, "num_generations": 4,
                      "gradient_accumulation_steps": 1, "steps_per_generation": 2, "max_completion_length": 4,
                      "max_steps": steps, "learning_rate": 1e-2, "tutoring_k": 10, "use_cpu": True, "bf16": False,
                      "report_to": "none", "save_strategy": "steps", "save_steps": 2, "ddp_timeout": 60,
                      "activation_checkpointing": False, **settings},
        }  # fmt: skip
        (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
        (said := tmp_path / "said.txt").write_text("")
        gloo_processes("tests.train.checkpoint_worker", engine, tmp_path, "train", tmp_path / "r.yaml", said=said)
        codes = [json.loads((tmp_path / f"code-{rank}.json").read_text()) for rank in (0, 1)]
        assert codes == [0, 0], said.read_text()
        return said.read_text()

    return run


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("engine", "settings", "part", "damaged"),
    [
        pytest.param("fsdp", {"fsdp": True}, "pytorch_model_fsdp.bin", False, id="fsdp2"),
        pytest.param("fsdp", SHARDED, "optimizer_0/__1_0.distcp", True, id="fsdp2-sharded"),
        pytest.param("deepspeed", zero(2), "global_step3/*_1_*optim_states.pt", False, id="zero2", marks=NO_DEEPSPEED),
        pytest.param("deepspeed", zero(3), "global_step3/*_1_*optim_states.pt", True, id="zero3", marks=NO_DEEPSPEED),
    ],
)
def test_a_run_goes_on_exactly_and_a_damaged_shard_is_noticed(
    tmp_path, tiny_path, train, engine, settings, part, damaged
):
    train(tmp_path / "calm", 4, engine, settings)
    train(tmp_path / "cut", 3, engine, settings)
    newest, before = checkpoints_in(tmp_path / "cut")
    assert (newest.name, before.name) == ("checkpoint-3", "checkpoint-2")
    (shard,) = newest.glob(part)
    if damaged:
        # Then the run goes on from the checkpoint before it; else inside the generation of steps 3 and 4.
        flip(shard)
    said = train(tmp_path / "cut", 4, engine, settings)
    assert ("has changed since it was saved; set aside as damaged-checkpoint-3" in said) == damaged
    assert (tmp_path / "cut" / "damaged-checkpoint-3").exists() == damaged
    calm, cut, start = (load_file(f"{folder}/model.safetensors") for folder in
                        (tmp_path / "calm", tmp_path / "cut", tiny_path))  # fmt: skip
    assert all(torch.equal(calm[name], cut[name]) for name in calm | cut)
    # Nothing at all, or the start model, would be equal too. Tied weights may stand there twice.
    calm.pop("lm_head.weight", None)
    assert {name: w.shape for name, w in calm.items()} == {name: w.shape for name, w in start.items()}
    assert max((calm[name] - start[name]).abs().max().item() for name in start) > 1e-3
