"""The hooks, seen from outside: normalisation, routing, KL, metrics, refusals."""

import json

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from PIL import Image

from ptdpo.data.dataset import rl_dataset
from ptdpo.data.images import open_image
from ptdpo.models import load_model
from ptdpo.presets import PRESETS
from ptdpo.train.examples import read_examples
from tests.train.helpers import (
    SGD,
    Alternating,
    always_right,
    always_wrong,
    largest_difference,
    make_trainer,
    metrics,
    parameters,
    parameters_of_start,
)


@pytest.mark.parametrize("preset", ["ptd-grpo", "ptd-gspo"])
def test_micro_batching_does_not_change_the_step(run, preset):
    """1 x 8 equals 8 x 1: the count in (11) is that of the whole optimiser step."""
    results = {}
    for batch, accumulation in [(8, 1), (1, 8), (2, 4)]:
        trainer = run(
            f"{batch}x{accumulation}",
            reward=Alternating(3),
            preset=preset,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            tutoring_weight=5.0,
            max_steps=2,
            **SGD,
        )
        results[batch] = parameters(trainer)
        rows = metrics(trainer)
        assert [row["tutored/rollouts"] for row in rows] == [5.0, 5.0]
    assert largest_difference(results[8], parameters_of_start(trainer)) > 1e-3
    assert largest_difference(results[8], results[1]) < 2e-6
    assert largest_difference(results[8], results[2]) < 2e-6


def test_the_tutoring_term_alone_moves_the_parameters(run):
    """Neither a zero gradient nor a stale loss."""
    trainer = run(reward=always_wrong, rl_weight=0.0, beta=0.0, **SGD)
    assert largest_difference(parameters(trainer), parameters_of_start(trainer)) > 1e-5
    first = run("second", reward=always_right, rl_weight=0.0, beta=0.0, **SGD)
    assert largest_difference(parameters(first), parameters_of_start(first)) == 0, "nothing failed, nothing moves"


def test_the_tutoring_term_pulls_the_policy_towards_the_teacher(run):
    trainer = run(
        reward=always_wrong, rl_weight=0.0, beta=0.0, max_steps=12, learning_rate=3e-3, tutoring_weight=1.0,
        tutoring_k=350, shuffle_dataset=False,
    )  # fmt: skip
    divergence = [row["divergence"] for row in metrics(trainer)]
    assert sum(divergence[-3:]) < 0.7 * sum(divergence[:3])


def test_the_divergence_is_that_of_the_hinted_reference(run, processor, train_rows):
    """Recompute the first step's mean divergence by hand, with plain forwards."""
    from ptdpo.algo.divergence import topk_divergence
    from ptdpo.tutor.context import hinted_prompt
    from tests.tutor.test_teacher import lesson, plain_logits

    trainer = run(reward=always_wrong)
    (example,) = read_examples(trainer.args.output_dir)
    row = next(r for r in train_rows if r["id"] == example.problem_id)
    images = [image.convert("RGB") for image in row["images"]]
    ids = torch.tensor([processor.tokenizer.convert_tokens_to_ids(t) for t in _tokens_of(trainer, example)])
    model = load_model(trainer.model.config._name_or_path).eval()
    student, teacher = (
        plain_logits(model, processor, replace_ids(lesson(processor, messages[0]["content"], images), ids))
        for messages in (row["prompt"], hinted_prompt(row))
    )
    expected = topk_divergence(student, teacher, k=10)
    assert expected.tolist() == pytest.approx(list(example.divergence), abs=2e-6)
    assert max(example.divergence) > 1e-6


def replace_ids(one, ids):
    from dataclasses import replace

    return replace(one, response_ids=ids)


def _tokens_of(trainer, example):
    """The example holds decoded text; find the ids again among the buffered rollouts."""
    tokenizer = trainer._tokenizer
    for batch in trainer._buffered_inputs:
        for ids in batch["completion_ids"]:
            kept = ids[: len(example.tokens)]
            if [tokenizer.decode([i]) for i in kept.tolist()] == list(example.tokens):
                return tokenizer.convert_ids_to_tokens(kept.tolist())
    raise AssertionError("the example is not among the rollouts")


def test_only_failed_rollouts_are_read_by_the_teacher(run):
    trainer = run(reward=Alternating(2), max_steps=3)
    assert trainer.teacher.rows_read == 3 * 4
    assert [row["tutored/rollouts"] for row in metrics(trainer)] == [4.0] * 3


def test_rows_without_a_hint_are_not_tutored(run, scenes):
    problems = [s.problem for s in scenes]
    hints = {s.problem.id: s.hint for s in scenes[::2]}
    trainer = run(rows=rl_dataset(problems, hints, instruction=""), reward=always_wrong, max_steps=8)
    assert sum(row["tutored/rollouts"] for row in metrics(trainer)) == 8 * 8 / 2
    with pytest.raises(ValueError, match="nothing in the column 'hint' or 'prompt_with_hint' of any of its 16 rows"):
        run("nobody", rows=rl_dataset(problems, {}, instruction=""), reward=always_wrong)


def test_prompt_with_hint_column_tutors_too(run, train_rows):
    rows = train_rows.map(lambda r: {"hint": None, "prompt_with_hint": "<image>\nwhat? Hint: the top row"})
    assert run(rows=rows, reward=always_wrong).teacher.rows_read == 8


@pytest.mark.parametrize("preset", ["grpo", "ptd-grpo"])
def test_problems_with_several_images_and_with_none(run, scenes, preset):
    from dataclasses import replace

    problems = [
        replace(s.problem, images=(s.problem.images * 2, (), s.problem.images)[n % 3]) for n, s in enumerate(scenes)
    ]
    rows = rl_dataset(problems, {s.problem.id: s.hint for s in scenes}, instruction="")
    trainer = run(rows=rows, reward=always_wrong, max_steps=3, preset=preset, shuffle_dataset=False)
    assert trainer.state.global_step == 3
    assert trainer.teacher is None or trainer.teacher.rows_read == 24


def test_reference_kl_is_kept_unless_a_setting_drops_it_on_tutored_groups(run):
    """With half of the groups tutored, dropping the KL halves it where policy and reference differ."""
    common = {"reward": Alternating(4), "tutoring_threshold": 0.2, "beta": 1.0, "rl_weight": 0.0, **SGD}
    common |= {"max_steps": 2, "num_iterations": 2, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    kept = run("kept", **{**common, "reward": always_wrong, "tutoring_threshold": 1.0})
    dropped = run(
        "dropped",
        **{**common, "reward": always_wrong, "tutoring_threshold": 1.0, "tutoring_keep_kl": False},
    )
    assert metrics(kept)[1]["kl"] > 0
    assert metrics(dropped)[1]["kl"] == 0, "every group is tutored here"
    assert largest_difference(parameters(kept), parameters(dropped)) > 0
    free = run("free", **{**common, "reward": always_wrong, "tutoring_threshold": 1.0, "beta": 0.0})
    assert largest_difference(parameters(free), parameters(dropped)) < 1e-7, "a dropped KL has no gradient either"
    untutored = run("untutored", **{**common, "tutoring_keep_kl": False})
    assert metrics(untutored)[0]["tutored/rollouts"] == 0


# opd and those that show a solution need what these rows do not have: tests/train/test_family.py.
ABSENT = {name for name, own in PRESETS.items() if own.get("tutoring_context") in ("question", "solution")}


@pytest.mark.parametrize("preset", sorted(PRESETS.keys() - ABSENT))
def test_every_preset_trains_and_logs(run, preset):
    trainer = run(preset=preset, reward=Alternating(3), max_steps=2)
    assert largest_difference(parameters(trainer), parameters_of_start(trainer)) > 0
    first = metrics(trainer)[0]
    expected = {
        "accuracy", "groups/all_fail", "groups/informative", "groups/all_pass", "entropy", "grad_norm",
        "completions/mean_length", "reconsideration", "seconds/generate", "seconds/reward", "seconds/teacher",
        "seconds/score", "seconds/update",
    }  # fmt: skip
    if preset.startswith("ptd-"):
        expected |= {"tutored/rollouts", "tutored/tokens", "divergence", "topk_overlap", "tail_mass/student",
                     "tail_mass/teacher", "accuracy/tutored_groups"}  # fmt: skip
    if PRESETS[preset].get("beta", 0.0) > 0:
        expected.add("kl")
    assert expected <= first.keys()
    assert first["accuracy"] == pytest.approx(3 / 8)
    assert first["groups/informative"] == 1.0
    assert all(json.dumps(value) for value in first.values())


def test_logged_numbers_are_those_of_the_loggers(run):
    trainer = run(reward=Alternating(2), max_steps=2)
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    for row, entry in zip(metrics(trainer), logged, strict=True):
        assert row["divergence"] == entry["divergence"]
        assert row["step"] == entry["step"]


def test_lora_teacher_equals_a_separate_copy(run, tiny_path):
    """With an adapter the frozen teacher is the base model with the adapter off."""
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    full = run("full", reward=always_wrong, shuffle_dataset=False)
    adapter = run("lora", reward=always_wrong, shuffle_dataset=False, peft_config=lora, max_steps=2)
    assert metrics(adapter)[0]["divergence"] == pytest.approx(metrics(full)[0]["divergence"], rel=1e-4)
    moved = [p.abs().max().item() for n, p in adapter.model.named_parameters() if "lora_B" in n]
    assert max(moved) > 0
    one = open_image_lesson(adapter)
    base = load_model(tiny_path).eval()
    from tests.tutor.test_teacher import plain_logits

    (record,) = adapter.teacher.read([one], calls=1, filler=one)
    got = torch.nn.functional.linear(record.hidden, *adapter.teacher.head())
    torch.testing.assert_close(got, plain_logits(base, adapter.processing_class, one), rtol=1e-4, atol=1e-5)


def open_image_lesson(trainer):
    from tests.tutor.test_teacher import lesson

    return lesson(trainer.processing_class)


def test_several_optimiser_steps_per_generation(run):
    settings = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "steps_per_generation": 2}
    trainer = run(reward=Alternating(2), max_steps=4, num_iterations=2, **settings)
    assert len(metrics(trainer)) == 4
    assert trainer.teacher.rows_read == 4, "one generation serves four steps"


def test_special_tokens_are_never_sampled(run, processor):
    trainer = run(reward=always_wrong)
    banned = set(processor.tokenizer.all_special_ids) - {processor.tokenizer.eos_token_id}
    assert set(trainer.generation_config.suppress_tokens) == banned
    assert processor.tokenizer.convert_tokens_to_ids("<|image_pad|>") in banned


def test_images_are_opened_as_rgb(scenes):
    assert open_image(scenes[0].problem.images[0]).mode == "RGB"


PARTS = [{"type": "image"}, {"type": "text", "text": "what colour?"}]
IN_PLACE = [
    {"type": "text", "text": "first "},
    {"type": "image"},
    {"type": "text", "text": " second "},
    {"type": "image"},
]


@pytest.mark.parametrize(
    ("prompt", "images"),
    [
        ([{"role": "user", "content": PARTS}], 1),
        ([{"role": "user", "content": IN_PLACE}], 2),
        ([{"role": "user", "content": "first <image> second <image>"}], 2),
        ("what colour?", 0),
    ],
)
def test_prompts_in_every_form_are_tutored(tmp_path, tiny_path, processor, prompt, images):
    row = {"prompt": prompt, "answer": "red", "hint": "look"}
    pictures = {"images": [Image.new("RGB", (32, 32), "red")] * images} if images else {}
    rows = Dataset.from_list([{**row, **pictures} for _ in range(4)])
    trainer = make_trainer(tmp_path, tiny_path, processor, rows, reward=always_wrong)
    trainer.train()
    assert trainer.teacher.rows_read > 0
