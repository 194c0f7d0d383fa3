"""DAPO's dynamic sampling, and the over-long penalty."""

import asyncio

import pytest
import torch
from trl.trainer.utils import split_pixel_values_by_grid

from ptdpo.data.dataset import rl_dataset
from ptdpo.data.prompts import attach_images
from ptdpo.train import PTDConfig
from ptdpo.train.metrics import read_metrics
from ptdpo.train.trl.setup import check_groups
from tests.train.helpers import Alternating, always_right, always_wrong, make_trainer


class ByProblem:
    """All rollouts of a problem are right, or all wrong, or every second one, as its id says."""

    __name__ = "accuracy_reward"

    def __init__(self, kinds):
        self.kinds, self.seen = kinds, []

    def __call__(self, completions, id, **_):
        self.seen.append(list(id))
        rules = {"right": 1.0, "wrong": 0.0}
        return [rules.get(self.kinds[name], float(n % 2)) for n, name in enumerate(id)]


@pytest.fixture
def run(tmp_path, tiny_path, processor, train_rows):
    def start(name="run", rows=None, **settings):
        settings = {"preset": "dapo", "gradient_accumulation_steps": 2, "max_steps": 2, **settings}
        trainer = make_trainer(tmp_path / name, tiny_path, processor, rows or train_rows, **settings)
        trainer.train()
        return trainer

    return start


def metrics(trainer):
    return read_metrics(f"{trainer.args.output_dir}/metrics.jsonl")


def test_uninformative_groups_are_exchanged(run, train_rows):
    ids = train_rows["id"]
    reward = ByProblem({name: ("right", "mixed", "wrong", "mixed")[n % 4] for n, name in enumerate(ids)})
    trainer = run(reward=reward, resampling_rounds=20, max_steps=3)
    rows = metrics(trainer)
    assert all(row["groups/informative"] == 1.0 and row["groups/uninformative_left"] == 0.0 for row in rows)
    assert any(row["groups/resampled"] > 0 for row in rows)
    # The rollouts that are trained on are graded once more by TRL, under the rows that took their place.
    assert {reward.kinds[name] for name in reward.seen[-1]} == {"mixed"}


def test_training_goes_on_when_nothing_informative_is_found(run):
    rows = metrics(run(reward=always_right, resampling_rounds=2))
    assert [row["groups/uninformative_left"] for row in rows] == [1.0, 1.0]
    assert [row["groups/resampled"] for row in rows] == [0.0, 0.0]


def test_groups_that_fail_as_a_whole_stay_when_they_carry_a_hint(run, scenes):
    """They are the signal of PTD."""
    rows = metrics(run("hinted", preset="ptd-dapo", reward=always_wrong))
    assert all(row["groups/resampled"] == 0 and row["groups/uninformative_left"] == 0 for row in rows)
    assert all(row["tutored/rollouts"] == 8 for row in rows)
    bare = rl_dataset([s.problem for s in scenes], {}, instruction="")
    rows = metrics(run("bare", rows=bare, preset="ptd-dapo", reward=always_wrong))
    assert all(row["groups/uninformative_left"] == 1.0 for row in rows)


def test_each_generation_of_a_step_draws_other_prompts(run, train_rows):
    reward = ByProblem(dict.fromkeys(train_rows["id"], "right"))
    run(reward=reward, resampling_rounds=1, max_steps=1, gradient_accumulation_steps=8, steps_per_generation=1)
    drawn = [tuple(ids) for ids in reward.seen[1::3]]
    assert len(drawn) == 8, "graded: what is sampled, what is drawn, what is trained on"
    assert len(set(drawn)) > 1


class Waiting(ByProblem):
    """As an accuracy that asks a server: awaited, and logging."""

    async def __call__(self, completions, id, log_metric, **_):
        await asyncio.sleep(0)
        log_metric("calls", len(self.seen))
        return [None if self.kinds[name] == "unknown" else value
                for name, value in zip(id, super().__call__(completions, id), strict=True)]  # fmt: skip


def test_an_accuracy_may_be_asynchronous_log_and_know_nothing(run, train_rows):
    kinds = {name: ("mixed", "unknown")[n % 2] for n, name in enumerate(train_rows["id"])}
    reward = Waiting(kinds)
    rows = metrics(run(reward=reward, resampling_rounds=20))
    assert all(row["groups/informative"] == 1.0 for row in rows)
    assert {kinds[name] for name in reward.seen[-1]} == {"mixed"}
    final = [n for n, ids in enumerate(reward.seen) if {kinds[name] for name in ids} == {"mixed"}]
    assert rows[-1]["calls"] == final[-1], "what is exchanged is not logged"


def test_logged_lengths_are_those_of_the_first_draw(run):
    with_rounds, without = (metrics(run(str(n), reward=always_right, resampling_rounds=n))[0] for n in (3, 0))
    assert with_rounds["groups/uninformative_left"] == 1.0
    names = [name for name in without if name.startswith("completions/")]
    assert "completions/mean_length" in names
    assert {name: with_rounds[name] for name in names} == {name: without[name] for name in names}


def test_right_groups_are_exchanged_with_tutoring_too(run):
    assert metrics(run(preset="ptd-dapo", reward=always_right))[0]["groups/uninformative_left"] == 1.0


def test_without_rounds_it_is_the_same_training(run):
    """Nothing is exchanged where every group is informative, and then resampling changes nothing."""
    with_rounds, without = (run(str(n), reward=Alternating(3), resampling_rounds=n) for n in (3, 0))
    names = ("loss", "grad_norm", "completions/mean_length", "entropy")
    for mine, theirs in zip(metrics(with_rounds), metrics(without), strict=True):
        assert {n: mine[n] for n in names} == {n: theirs[n] for n in names}


@pytest.mark.parametrize(
    ("preset", "setting"), [("dapo", "resampling_rounds=3"), ("hdpo", "tutoring_rollouts=teacher")]
)
def test_groups_spread_over_processes_are_refused(tmp_path, tiny_path, processor, train_rows, preset, setting):
    trainer = make_trainer(tmp_path, tiny_path, processor, train_rows, preset=preset)
    trainer.args.per_device_train_batch_size, trainer.args.steps_per_generation = 2, 3
    with pytest.raises(ValueError, match=f"{setting}: .* 6 rollouts .* not a multiple of num_generations=4"):
        check_groups(trainer.args, trainer.num_generations, train_rows)


def test_long_responses_are_punished_softly(run, processor):
    trainer = run(reward=Alternating(3), overlong_buffer=4, max_completion_length=8, resampling_rounds=0)
    assert trainer.reward_func_names == ["accuracy_reward", "soft_overlong_punishment_reward"]
    penalty = trainer.reward_funcs[-1]
    lengths = (1, 4, 5, 8, 9)
    assert penalty(completion_ids=[[0] * n for n in lengths]) == [0.0, 0.0, -0.25, -1.0, -1]
    assert metrics(trainer)[0]["accuracy"] == pytest.approx(3 / 8), "routing still reads the accuracy"


def test_a_buffer_longer_than_the_response_is_refused(tmp_path):
    settings = {"overlong_buffer": 9, "max_completion_length": 8, "use_cpu": True, "bf16": False}
    with pytest.raises(ValueError, match="overlong_buffer=9: must not exceed max_completion_length=8"):
        PTDConfig.from_preset("dapo", output_dir=str(tmp_path), **settings)


def trained_rows(trainer):
    """Yield prompt text, response ids and pixels of every row that is trained on."""
    for batch in trainer._buffered_inputs:
        split = split_pixel_values_by_grid(batch)
        for row, (prompt, response) in enumerate(zip(batch["prompt_ids"], batch["completion_ids"], strict=True)):
            text = trainer._tokenizer.decode(prompt[batch["prompt_mask"][row].bool()])
            yield text, response[batch["completion_mask"][row].bool()].tolist(), split["pixel_values"][row]


@pytest.mark.parametrize("images", ["everywhere", "here and there"])
def test_exchanged_rollouts_belong_to_their_rows(tmp_path, tiny_path, processor, train_rows, images):
    """Question, image, response and what it was sampled from are those of one problem after an exchange."""
    if images == "here and there":
        train_rows = train_rows.map(lambda row, n: {"images": row["images"][: n % 2]}, with_indices=True)
    train_rows = train_rows.map(lambda row, n: {"prompt": question(row, 20 + n)}, with_indices=True)
    kinds = {name: ("mixed", "wrong")[n % 3 > 0] for n, name in enumerate(train_rows["id"])}
    settings = {"preset": "dapo", "resampling_rounds": 20, "max_steps": 3, "gradient_accumulation_steps": 2}
    trainer = make_trainer(tmp_path, tiny_path, processor, train_rows, reward=ByProblem(kinds), **settings)

    def answer(prompt_ids, *_, **__):
        return [[sum(ids) % 40 + 20, sum(ids) % 37 + 20] for ids in prompt_ids], None

    trainer._generate_single_turn = answer
    trainer.train()
    rows = metrics(trainer)
    assert max(row["groups/resampled"] for row in rows) > 0
    found = 0
    for text, response, pixels in trained_rows(trainer):
        (row,) = (row for row in train_rows if row["prompt"][0]["content"] in text)
        assert kinds[row["id"]] == "mixed"
        shown = processor.image_processor(images=row["images"], return_tensors="pt") if row["images"] else None
        assert len(pixels) == 0 if shown is None else torch.equal(pixels, shown["pixel_values"])
        ids = trainer._tokenize_prompts([attach_images(row["prompt"], row["images"])])[0]
        assert [response] == answer(ids)[0]
        found += 1
    assert found == 8


def question(row, number):
    """Return the row's prompt with a number that no other row has."""
    return [{**message, "content": f"{message['content']} {number}."} for message in row["prompt"]]
