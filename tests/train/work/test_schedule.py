"""Learning rate and lambda over a run, against what the trainer logs."""

import pytest

from ptdpo.train import PTDConfig
from ptdpo.train.settings import settings_as_written
from ptdpo.train.work.schedule import scheduled_steps
from tests.train.helpers import metrics


def steps_of(steps, **settings):
    return scheduled_steps(settings_as_written(PTDConfig, {"learning_rate": 1e-3, **settings}), steps)


def test_the_trainer_has_the_same(run):
    settings = {"lr_scheduler_type": "linear", "warmup_steps": 1, "learning_rate": 1e-3}
    trainer = run(max_steps=4, **settings)
    logged = {entry["step"]: entry["learning_rate"] for entry in metrics(trainer)}
    made = scheduled_steps(trainer.args, 4)
    assert [at.step for at in made] == [1, 2, 3, 4]
    assert {at.step: at.learning_rate for at in made} == pytest.approx(logged)


def test_the_first_the_end_of_the_warm_up_each_quarter_and_the_last():
    made = steps_of(101, lr_scheduler_type="cosine", warmup_steps=10, tutoring_schedule="linear", tutoring_weight=0.5)
    assert [at.step for at in made] == [1, 11, 26, 51, 76, 101]
    assert made[0].learning_rate == 0
    assert made[1].learning_rate == 1e-3
    assert made[0].tutoring == 0.5
    assert made[3].tutoring == pytest.approx(0.5 * (1 - 50 / 101))


def test_one_step_and_a_schedule_that_follows_a_metric():
    assert [at.step for at in steps_of(1)] == [1]
    assert steps_of(5, lr_scheduler_type="reduce_lr_on_plateau") == []
