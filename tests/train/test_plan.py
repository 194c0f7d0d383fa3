"""What a dry run finds before weights are loaded."""

import copy

import pytest
import yaml

from ptdpo.config import read_recipe
from ptdpo.data.files import write_hints, write_problems, write_solutions
from ptdpo.records import Solution
from ptdpo.train.plan import make_plan
from ptdpo.train.run import train_recipe
from ptdpo.train.trl.setup import pad_left


@pytest.mark.parametrize("check", [make_plan, train_recipe])
def test_a_solution_that_the_teacher_reads_counts_as_part_of_its_prompt(tmp_path, scenes, tiny_path, check):
    write_problems(tmp_path / "p.jsonl", [s.problem for s in scenes])
    write_solutions(tmp_path / "s.jsonl", [Solution(scenes[0].problem.id, "word " * 5000)])
    content = {
        "preset": "opsd",
        "model": tiny_path,
        "data": {"path": str(tmp_path / "p.jsonl"), "solutions": str(tmp_path / "s.jsonl")},
        "train": {"output_dir": str(tmp_path / "run"), "use_cpu": True, "bf16": False},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=r"1 bad row: .* \(prompt with its solution of \d+ tokens, more than 8192"):
        check(read_recipe(tmp_path / "r.yaml"))


@pytest.mark.parametrize("check", [make_plan, train_recipe])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("remove_unused_columns=true", "answers and hints would be taken away"),
        ("report_to=tensorboard", "report_to=tensorboard: its package is not installed here"),
        ("report_to=wandbb", "unknown place for report_to 'wandbb'; did you mean 'wandb'"),
        ("use_liger_kernel=true", "use_liger_kernel=True: its package is not installed here"),
        ("use_vllm=true", "use_vllm=True: its package is not installed here"),
        ("push_to_hub=true", "nobody is logged in here"),
        ("eval_strategy=steps", "eval_strategy=steps: a recipe evaluates nothing while it trains"),
        ("sync_ref_model=true", "sync_ref_model=True moves the reference"),
        ("generation_batch_size=8 steps_per_generation=1", "set one of them"),
        (
            "resume_from_checkpoint=/no/such/checkpoint-9",
            "goes on from the newest checkpoint",
        ),
        ("learning_rate=.inf", "learning_rate=inf: must be a finite number"),
        ("learning_rate=1e6", r"must be in \[0, 10\]"),
        ("tutoring_weight=.inf", "must be a finite number"),
        ("beta=1e9", r"must be in \[0, 1000\]"),
        ("fp16=true", "half precision needs a GPU"),
        ("fsdp=true", "needs several processes"),
        ("loss_type=pppo", "loss_type: expected one of grpo"),
        ("lr_scheduler_type=cosine_with_min_lr", "lr_scheduler_type=cosine_with_min_lr"),
        ("reward_weights=[1]", "a recipe has two rewards"),
        ("accuracy_reward=mine", "accuracy_reward='mine'"),
    ],
)
def test_the_dry_run_says_what_training_says(tmp_path, scenes, monkeypatch, tiny_path, check, setting, message):
    """Before any weights are read."""
    monkeypatch.setattr("ptdpo.train.trl.recipe_checks.get_token", lambda: None)
    write_problems(tmp_path / "p.jsonl", [s.problem for s in scenes])
    write_hints(tmp_path / "h.jsonl", {s.problem.id: s.hint for s in scenes}, "rule")
    content = {
        "preset": "ptd-grpo",
        "model": tiny_path,
        "data": {"path": str(tmp_path / "p.jsonl"), "hints": str(tmp_path / "h.jsonl")},
        "train": {
            "output_dir": str(tmp_path / "run"),
            "use_cpu": True,
            "bf16": False,
            "per_device_train_batch_size": 8,
        },
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=message):
        check(read_recipe(tmp_path / "r.yaml", setting.split()))


def test_a_processor_that_pads_on_the_right_is_turned(processor):
    turned = copy.deepcopy(processor)
    turned.tokenizer.padding_side = "right"
    with pytest.warns(UserWarning, match="set to 'left'"):
        pad_left(turned)
    assert turned.tokenizer.padding_side == "left"
