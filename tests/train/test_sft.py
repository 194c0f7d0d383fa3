"""The preset sft: resumes, trains an adapter, and says what it does not do."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
import yaml
from PIL import Image

from ptdpo.config import read_recipe
from ptdpo.data.files import write_problems, write_solutions
from ptdpo.models import load_model, load_processor
from ptdpo.train.plan import make_plan
from ptdpo.train.run import train_recipe
from tests.reference.objective import Reader
from tests.train.helpers import SGD


@pytest.fixture
def recipe(tmp_path, scenes, tiny_path):
    """Return a recipe: eight problems, three of them without an image, and some solutions."""
    problems = [replace(s.problem, images=()) if n in (1, 2, 3) else s.problem for n, s in enumerate(scenes[:8])]
    write_problems(tmp_path / "train.jsonl", problems)

    def write(name, solutions=8, lora=None, **train):
        write_solutions(tmp_path / "solutions.jsonl", [s.solution for s in scenes[:solutions]])
        settings = {"max_steps": 4, "per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 2}
        settings |= {"report_to": "none", "use_cpu": True, "bf16": False, "disable_tqdm": True}
        data = {"path": str(tmp_path / "train.jsonl"), "solutions": str(tmp_path / "solutions.jsonl")}
        content = {
            "preset": "sft",
            "model": tiny_path,
            "data": {**data, "instruction": "", "max_prompt_tokens": 256},
            "train": {"output_dir": str(tmp_path / name), "activation_checkpointing": False, **settings, **train},
            "lora": lora or {},
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        return read_recipe(tmp_path / f"{name}.yaml")

    return write


def test_it_resumes_to_the_last_bit(recipe, tmp_path):
    whole = load_model(str(train_recipe(recipe("whole"))))
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "cut" / "checkpoint-2")
    resumed = dict(load_model(str(train_recipe(recipe("cut")))).named_parameters())
    assert all(torch.equal(resumed[name], value) for name, value in whole.named_parameters())


def test_its_step_is_the_cross_entropy_of_the_responses(recipe, scenes, tiny_path, tmp_path):
    """Over all of their tokens and the end of the turn; nothing of the prompts, of which some have no image."""
    one = {**SGD, "learning_rate": 1e-2, "max_steps": 1, "per_device_train_batch_size": 8, "save_strategy": "no"}
    trained = load_model(str(train_recipe(recipe("one", **one))))
    processor, start = load_processor(tiny_path), load_model(tiny_path).double()
    read, losses = Reader(processor, 1.0), []
    for number, scene in enumerate(scenes[:8]):
        # The prompt opens the thinking.
        text = scene.solution.response.removeprefix("<think>") + "<|im_end|>\n"
        ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        image = None if number in (1, 2, 3) else Image.open(scene.problem.images[0]).convert("RGB")
        log_p = read(start, scene.problem.problem, image, ids)
        losses.append(-log_p[range(len(ids)), ids])
    loss = torch.cat(losses).mean()
    loss.backward()
    (line,) = (tmp_path / "one" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["loss"] == pytest.approx(loss.item(), rel=1e-5)
    moved = {name: parameter.detach() for name, parameter in trained.named_parameters()}
    steps = [moved[name].double() - parameter.detach() for name, parameter in start.named_parameters()]
    gradients = [-1e-2 * parameter.grad for parameter in start.parameters()]
    apart = torch.cat([(a - b).flatten() for a, b in zip(steps, gradients, strict=True)]).norm()
    assert apart < 1e-3 * torch.cat([b.flatten() for b in gradients]).norm()


def test_it_trains_an_adapter_that_loads_as_a_model(recipe, tiny_path):
    start = dict(load_model(tiny_path).named_parameters())
    merged = dict(
        load_model(str(train_recipe(recipe("lora", lora={"rank": 2}, learning_rate=1e-2)))).named_parameters()
    )
    assert merged.keys() == start.keys(), "the adapter is merged into its base"
    assert max((merged[name] - start[name]).abs().max().item() for name in start) > 0


def test_the_plan_counts_problems_with_a_solution(recipe):
    assert ("problems with a solution", "3") in make_plan(recipe("few", solutions=3)).rows()


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ({"max_length": 16}, "rows are trained on whole"),
        ({"packing": True}, "rows are trained on whole"),
        ({"completion_only_loss": False}, "rows are trained on whole"),
        ({"padding_free": True}, "rows are trained on whole"),
        ({"assistant_only_loss": True}, "rows are trained on whole"),
        ({"truncation_mode": "keep_end"}, "rows are trained on whole"),
        ({"model_init_kwargs": {"dtype": "bfloat16"}}, "nothing reads it"),
        ({"chat_template_path": "other"}, "nothing reads it"),
        ({"eos_token": "<|im_end|>"}, "nothing reads it"),
        ({"dataset_kwargs": {"skip_prepare_dataset": True}}, "nothing reads it"),
        ({"pad_to_multiple_of": 8}, "nothing reads it"),
        ({"shuffle_dataset": True}, "nothing reads it"),
        ({"loss_type": "nonsense"}, "must be nll or dft"),
        ({"train_sampling_strategy": "group_by_length"}, "must be random or sequential"),
        ({"activation_offloading": True}, "there is no other memory"),
        ({"auto_find_batch_size": True}, "would be another run"),
    ],
)
def test_settings_that_fail_or_have_no_effect_are_refused(recipe, setting, why):
    ((name, _),) = setting.items()
    with pytest.raises(ValueError, match=f"{name}=.*{why}"):
        make_plan(recipe("refused", **setting))
