"""``ptdpo train`` by DDP and FSDP2 over two processes and by one process: one run, gone on with in any of them."""

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file

from ptdpo.data.files import write_hints, write_problems
from ptdpo.train.metrics import read_metrics
from tests.processes import gloo_processes

pytestmark = pytest.mark.slow

# Processes, and arguments of the command: the same rows in one optimiser step.
LAYOUTS = {
    "ddp": (2, ()),
    "fsdp": (2, ("fsdp=true",)),
    "shards": (2, ("fsdp=true", "fsdp_config={state_dict_type: SHARDED_STATE_DICT}")),
    "one process": (1, ("processes=1", "per_device_train_batch_size=8")),
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, scenes, tiny_path):
    folder = tmp_path_factory.mktemp("layouts")
    write_problems(folder / "p.jsonl", [s.problem for s in scenes])
    write_hints(folder / "h.jsonl", {s.problem.id: s.hint for s in scenes}, model="rule")
    content = {
        "preset": "ptd-grpo",
        "model": tiny_path,
        "processes": 2,
        "data": {"path": str(folder / "p.jsonl"), "hints": str(folder / "h.jsonl")},
        "train": {
            "use_cpu": True, "bf16": False, "per_device_train_batch_size": 4, "num_generations": 4, "max_steps": 2,
            "gradient_accumulation_steps": 1, "max_completion_length": 8, "learning_rate": 1e-3, "tutoring_k": 10,
            "activation_checkpointing": False, "report_to": "none", "save_strategy": "steps", "save_steps": 1,
        },
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def train(recipe, folder, layout):
    """Train to the end in some layout, from what the folder holds; return the weights and the metrics of each step."""
    count, arguments = LAYOUTS[layout]
    said = folder.with_suffix(".txt")
    engine = "ddp" if layout in ("ddp", "one process") else "fsdp"
    command = ("train", recipe, f"output_dir={folder}", *arguments)
    gloo_processes("tests.train.checkpoint_worker", engine, recipe.parent, *command, said=said, count=count)
    codes = [json.loads((recipe.parent / f"code-{rank}.json").read_text()) for rank in range(count)]
    assert codes == [0] * count, said.read_text()[-4000:]
    # Only FSDP writes a checkpoint like this one.
    assert (folder / "checkpoint-2" / "pytorch_model_fsdp.bin").exists() == (layout == "fsdp")
    weights = load_file(folder / "model.safetensors")
    return weights, list(read_metrics(folder / "metrics.jsonl"))


@pytest.fixture(scope="module")
def whole(recipe):
    """The runs of both layouts, never stopped: weights and metrics."""
    return {layout: train(recipe, recipe.parent / layout, layout) for layout in ("ddp", "fsdp", "shards")}


def assert_same(weights, expected, tolerance=1e-6):
    assert weights.keys() == expected.keys()
    for name, value in weights.items():
        assert (value - expected[name]).abs().max() < tolerance, name


def test_both_layouts_are_one_run(whole, tiny_path):
    (ddp, first), (fsdp, second) = whole["ddp"], whole["fsdp"]
    assert_same(fsdp, ddp)
    start = load_file(f"{tiny_path}/model.safetensors")
    assert max((ddp[name] - start[name]).abs().max().item() for name in ddp) > 1e-3
    for mine, other in zip(first, second, strict=True):
        for name in ("divergence", "kl", "entropy", "loss"):
            assert mine[name] == pytest.approx(other[name], rel=1e-4, abs=1e-7), name


def cut_after_one_step(recipe, before, folder):
    """Copy a run as it was after its first step."""
    shutil.copytree(recipe.parent / before, folder)
    shutil.rmtree(folder / "checkpoint-2")
    for name in ("finished.json", "model.safetensors"):
        (folder / name).unlink()


@pytest.mark.parametrize(
    ("before", "after"),
    [("fsdp", "ddp"), ("ddp", "fsdp"), ("shards", "ddp"), ("ddp", "shards"), ("shards", "fsdp"), ("fsdp", "shards")],
)
def test_a_run_goes_on_in_another_layout(whole, recipe, before, after):
    """With weights and moments of the optimiser: of weights alone the second step would be another."""
    folder = recipe.parent / f"{before} then {after}"
    cut_after_one_step(recipe, before, folder)
    weights, metrics = train(recipe, folder, after)
    assert_same(weights, whole["ddp"][0])
    assert [line["step"] for line in metrics] == [1, 2]


@pytest.mark.parametrize("before", ["fsdp", "shards"])
def test_a_sharded_run_goes_on_in_one_process(whole, recipe, before):
    """Whose rollouts are others: one process draws them all from one stream."""
    folder = recipe.parent / f"{before} then one process"
    cut_after_one_step(recipe, before, folder)
    weights, _ = train(recipe, folder, "one process")
    # Both layouts made the same first step.
    before = load_file(recipe.parent / "fsdp" / "checkpoint-1" / "model.safetensors")
    moved = max((weights[name] - before[name]).abs().max().item() for name in weights)
    # A step of AdamW moves a weight by its learning rate at most, or little more.
    assert 1e-4 < moved < 1.5e-3
    state = torch.load(folder / "checkpoint-2" / "optimizer.pt", weights_only=True)["state"]
    assert {values["step"].item() for values in state.values()} == {2.0}
