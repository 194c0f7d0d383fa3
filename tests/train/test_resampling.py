"""DAPO's dynamic sampling, and the over-long penalty."""

import asyncio

import pytest

from ptdpo.presets import PRESETS
from ptdpo.train import PTDConfig
from ptdpo.train.layout import layout_of
from ptdpo.train.metrics import read_metrics
from ptdpo.train.settings import settings_as_written
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


def test_groups_that_fail_as_a_whole_stay_when_they_carry_a_hint(run):
    """They are the signal of PTD."""
    rows = metrics(run("hinted", preset="ptd-dapo", reward=always_wrong))
    assert all(row["groups/resampled"] == 0 and row["groups/uninformative_left"] == 0 for row in rows)
    assert all(row["tutored/rollouts"] == 8 for row in rows)
    # In such a group nobody has a right sibling to show.
    rows = metrics(
        run("bare", preset="ptd-dapo", tutoring_context="sibling", tutoring_select="with_sibling", reward=always_wrong)
    )
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
def test_groups_spread_over_processes_are_refused(preset, setting):
    layout = {"num_generations": 4, "per_device_train_batch_size": 2, "steps_per_generation": 3}
    layout["gradient_accumulation_steps"] = 3
    settings = settings_as_written(PTDConfig, {**PRESETS[preset], **layout})
    with pytest.raises(ValueError, match=f"{setting}: .* 6 rollouts .* not a multiple of num_generations=4"):
        layout_of(settings, 2)
