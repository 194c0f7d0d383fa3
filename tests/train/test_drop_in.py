"""``PTDTrainer`` in the place of TRL's trainer: rewards of any kind, evaluation at any time, where files come from."""

import dataclasses
from pathlib import Path

import datasets
import pytest
import torch
from trl import GRPOConfig

from ptdpo.models import loading
from ptdpo.train import PTDConfig, PTDTrainer
from ptdpo.train.trl.accuracy import AccuracySource
from ptdpo.train.trl.reference import origin_of
from tests import tiny_families
from tests.train.helpers import metrics, small_settings
from tests.train.test_text import ROWS


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_families.save_text_model(tmp_path_factory.mktemp("qwen2"), "qwen2")


def length(completions, **_):
    return [len(one[0]["content"]) / 10 for one in completions]


def right(completions, **_):
    return [float(n % 3 == 0) for n in range(len(completions))]


def half(completions, **_):
    return [(n % 3) / 2 for n in range(len(completions))]


@pytest.fixture
def make(tmp_path, path):
    def start(rewards, weight=0.0, rows=ROWS, accuracy=None, settings=None, **kwargs):
        settings = {"tutoring_k": 10, "tutoring_weight": weight, "max_steps": 1, **small_settings(), **(settings or {})}
        args = PTDConfig(output_dir=str(tmp_path / "run"), **settings)
        data = datasets.Dataset.from_list(rows)
        return PTDTrainer(path, rewards, args, accuracy=accuracy, train_dataset=data, **kwargs)

    return start


def trained(trainer):
    trainer.train()
    return metrics(trainer)[0]


def test_without_tutoring_no_reward_need_be_an_accuracy(make):
    logged = trained(make(length))
    assert "accuracy" not in logged
    assert "groups/all_fail" not in logged


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_accuracy_is_the_first_reward_when_that_is_0_or_1(make, weight):
    logged = trained(make([right, length], weight))
    assert logged["accuracy"] == pytest.approx(0.375)
    if weight:
        assert logged["tutored/rollouts"] == 5


def test_the_accuracy_may_be_a_function_beside_the_rewards(make):
    logged = trained(make(length, 0.5, accuracy=right))
    assert logged["accuracy"] == pytest.approx(0.375)
    assert logged["tutored/rollouts"] == 5
    assert logged["reward"] == pytest.approx(logged["rewards/length/mean"], rel=1e-4), "it does not pay"


def test_the_accuracy_may_be_named(make):
    assert trained(make([length, right], 0.5, settings={"accuracy_reward": "right"}))["tutored/rollouts"] == 5
    with pytest.raises(ValueError, match="accuracy_reward='other' is not among the reward functions"):
        make([length, right], 0.5, settings={"accuracy_reward": "other"})


def test_fractions_are_refused_or_routed_by_a_threshold(make):
    with pytest.raises(ValueError, match=r"the reward .half., .* returned 0.5, neither 0 nor 1: set"):
        trained(make(half, 0.5))
    logged = trained(make(half, 0.5, settings={"accuracy_threshold": 0.5}))
    assert logged["accuracy"] == pytest.approx(5 / 8)
    assert logged["tutored/rollouts"] == 3


def test_what_was_not_graded_stays_so():
    source = AccuracySource(0, "r", True, 0.5)
    values = source.of(torch.tensor([0.2, 0.5, torch.nan]))
    assert values[:2].tolist() == [0.0, 1.0]
    assert values[2].isnan()


def test_rollouts_that_are_not_graded_are_refused_where_routing_reads_them(make):
    def partly(completions, **_):
        return [None if n % 4 == 0 else 1.0 for n in range(len(completions))]

    make([partly, right], 0.0).train()
    with pytest.raises(
        ValueError, match=r"the reward .partly., .* returned None for 2 of 8 rollouts: name another acc"
    ):
        make([partly, right], 0.5).train()


def test_evaluation_comes_before_training_and_at_its_start(make):
    trainer = make(right, 0.5, eval_dataset=datasets.Dataset.from_list(ROWS), settings={
        "eval_on_start": True, "eval_strategy": "no", "per_device_eval_batch_size": 4})  # fmt: skip
    before = trainer.evaluate()
    assert before["eval_rewards/right/mean"] == pytest.approx(0.375, abs=0.2)
    trainer.train()
    assert metrics(trainer)[0]["tutored/rollouts"] == 5


def test_the_docs_list_the_defaults_that_differ():
    theirs = {field.name: field.default for field in dataclasses.fields(GRPOConfig)}
    ours = {field.name: field.default for field in dataclasses.fields(PTDConfig) if field.name in theirs}
    differing = {
        f"| `{name}` | `{theirs[name]}` | `{value}` |" for name, value in ours.items() if value != theirs[name]
    }
    listed = (Path(__file__).parents[2] / "docs" / "presets.md").read_text().split("## In the place")[1].split("## ")[0]
    rows = {line for line in listed.splitlines() if line.startswith("| `")}
    assert rows == differing


def test_the_files_of_the_policy_come_from_its_revision(tmp_path):
    args = PTDConfig(output_dir=str(tmp_path), model_init_kwargs={"revision": "abc"}, trust_remote_code=True,
                     **small_settings())  # fmt: skip
    assert origin_of(args) == {"revision": "abc", "trust_remote_code": True}
    assert origin_of(args, "another/model") == {"trust_remote_code": True}


def test_the_revision_reaches_configuration_and_processor(monkeypatch, path):
    seen = []
    monkeypatch.setattr(loading.AutoConfig, "from_pretrained", lambda *_, **given: seen.append(given) or _stop())
    with pytest.raises(RuntimeError, match="stop"):
        loading.load_processor(path, revision="abc")
    assert seen == [{"revision": "abc"}]


def _stop():
    raise RuntimeError("stop")
