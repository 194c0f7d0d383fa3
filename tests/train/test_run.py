"""``train_recipe`` goes on only with what it began, stops when it is finished, and checks before it trains."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import yaml
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from ptdpo.config import read_recipe
from ptdpo.data.files import write_hints, write_problems, write_solutions
from ptdpo.folders import sole_writer, write_json
from ptdpo.signals import StoppedBySignal
from ptdpo.train.plan import make_plan
from ptdpo.train.provenance import check_same, provenance_of
from ptdpo.train.run import train_recipe
from ptdpo.train.trl.whole_checkpoints import WholeCheckpoints
from tests.train.helpers import small_settings

SETTINGS = small_settings(max_steps=2, max_completion_length=4, save_strategy="steps", save_steps=1)
SFT_SETTINGS = {k: v for k, v in SETTINGS.items() if k not in ("num_generations", "max_completion_length")}


@pytest.fixture
def recipe(tmp_path, scenes, tiny_path):
    """Return a recipe that trains in one folder."""
    write_problems(tmp_path / "train.jsonl", [s.problem for s in scenes])
    write_hints(tmp_path / "hints.jsonl", {s.problem.id: s.hint for s in scenes}, "rule")
    write_solutions(tmp_path / "solutions.jsonl", [s.solution for s in scenes])
    data = {name: str(tmp_path / f"{name}.jsonl") for name in ("hints", "solutions")}
    data |= {"path": str(tmp_path / "train.jsonl"), "instruction": "", "max_prompt_tokens": 256}

    def write(*overrides, preset="ptd-grpo", leave_out=(), **train):
        settings = {**(SFT_SETTINGS if preset == "sft" else SETTINGS), "output_dir": str(tmp_path / "run"), **train}
        settings = {key: value for key, value in settings.items() if key not in leave_out}
        content = {"preset": preset, "model": tiny_path, "data": data, "train": settings}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
        return read_recipe(tmp_path / "recipe.yaml", overrides)

    return write


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("checkpoint-*"))


def test_a_checkpoint_is_not_resumed_with_other_settings(recipe):
    folder = train_recipe(recipe())
    before = weights(folder)
    with pytest.raises(ValueError, match=r"now data\.limit=9, model='other', preset='grpo'") as refused:
        train_recipe(recipe("data.limit=9", "model=other", preset="grpo", learning_rate=5e-3))
    for part in ("data.limit=None", "preset='ptd-grpo'", "train.learning_rate=0.001",
                 "train.learning_rate=0.005", "started.json", "set another output_dir, or delete"):  # fmt: skip
        assert part in str(refused.value)
    assert weights(folder) == before
    shutil.rmtree(folder)
    train_recipe(recipe(preset="grpo"))


def test_a_run_may_be_prolonged_laid_out_and_reported_otherwise(recipe):
    train_recipe(recipe())
    longer = recipe(
        max_steps=3, per_device_train_batch_size=8, gradient_accumulation_steps=1, logging_steps=2, record_steps=0
    )
    folder = train_recipe(longer)
    assert checkpoints(folder) == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    assert json.loads((folder / "finished.json").read_text())["train"]["max_steps"] == 3
    assert "| preset | ptd-grpo |" in (folder / "README.md").read_text(), "the model card"


def test_a_batch_of_another_size_is_another_run(recipe, tmp_path):
    write_json(tmp_path / "started.json", provenance_of(recipe()))
    check_same(tmp_path / "started.json", provenance_of(recipe("processes=2", gradient_accumulation_steps=1)), "",
               may_go_on=True)  # fmt: skip
    with pytest.raises(ValueError, match=r"made with layout\.rollouts_per_generation=8, layout\.rows_per_step=8, but"):
        check_same(tmp_path / "started.json", provenance_of(recipe("processes=2")), "", may_go_on=True)


def test_a_default_that_is_spelt_out_is_no_change(recipe, tmp_path):
    write_json(tmp_path / "started.json", provenance_of(recipe()))
    check_same(tmp_path / "started.json", provenance_of(recipe(tutoring_weight=0.5, temperature=1.0, beta=0.01)), "")
    with pytest.raises(ValueError, match=r"made with train\.tutoring_weight=0\.5, but now train\.tutoring_weight=2\.0"):
        check_same(tmp_path / "started.json", provenance_of(recipe(tutoring_weight=2.0)), "")


@pytest.mark.parametrize(
    ("preset", "length"),
    [
        ("grpo", {"max_steps": 1}),
        ("grpo", {"max_steps": 2, "per_device_train_batch_size": 8, "steps_per_generation": 2}),
        ("grpo", {"max_steps": -1, "num_train_epochs": 0.3}),
        ("sft", {"max_steps": 1}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_a_finished_run_is_not_trained_further(recipe, preset, length, capsys):
    asked = recipe(preset=preset, **length)
    folder = train_recipe(asked)
    steps, before = checkpoints(folder), weights(folder)
    train_recipe(asked)
    assert (checkpoints(folder), weights(folder)) == (steps, before)
    assert f"finished, checkpoint-{make_plan(asked).optimiser_steps} has all steps" in capsys.readouterr().err


def test_a_finished_run_without_checkpoints_is_not_written_over_by_another(recipe):
    folder = train_recipe(recipe(save_strategy="no"))
    before = weights(folder)
    with pytest.raises(ValueError, match=r"now lora\.rank=4"):
        train_recipe(recipe("lora.rank=4", save_strategy="no"))
    assert weights(folder) == before
    assert not (folder / "adapter_config.json").exists()


@pytest.mark.parametrize("preset", ["grpo", "sft"])
def test_a_run_that_was_cut_before_it_was_saved_is_saved(recipe, preset):
    asked = recipe(preset=preset, max_steps=1)
    folder = train_recipe(asked)
    steps, before = checkpoints(folder), weights(folder)
    for name in ("finished.json", "model.safetensors"):
        (folder / name).unlink()
    train_recipe(asked)
    assert (checkpoints(folder), weights(folder)) == (steps, before)
    assert (folder / "finished.json").exists()


@pytest.mark.parametrize("preset", ["grpo", "sft"])
def test_a_damaged_checkpoint_is_set_aside_and_the_run_ends_as_it_would_have(recipe, preset, capsys):
    folder = train_recipe(recipe(preset=preset))
    whole = weights(folder)
    (folder / "finished.json").unlink()
    (folder / "checkpoint-2" / "optimizer.pt").unlink()
    train_recipe(recipe(preset=preset))
    said = "checkpoint-2: optimizer.pt is missing; set aside as damaged-checkpoint-2; going on from checkpoint-1"
    assert said in capsys.readouterr().err
    assert weights(folder) == whole
    assert checkpoints(folder) == ["checkpoint-1", "checkpoint-2"]
    assert not (folder / ".saving").exists()


def test_a_run_whose_checkpoints_are_all_damaged_is_refused(recipe):
    folder = train_recipe(recipe(max_steps=1))
    (folder / "checkpoint-1" / "rng_state.pth").write_bytes(b"")
    with pytest.raises(ValueError, match=r"rng_state\.pth has 0 bytes, saved were \d+: no whole checkpoint is left"):
        train_recipe(recipe())
    assert checkpoints(folder) == ["checkpoint-1"]


def test_a_checkpoint_of_the_model_only_cannot_be_gone_on_from(recipe):
    train_recipe(recipe(save_only_model=True, max_steps=1))
    with pytest.raises(ValueError, match=r"checkpoint-1: was saved with save_only_model=True"):
        train_recipe(recipe(save_only_model=True))


def test_a_checkpoint_that_cannot_be_written_is_one_line_and_the_last_one_stays(recipe, monkeypatch):
    def full(content, path, *_, **__):
        with open(path, "wb") as file:
            file.write(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    folder = train_recipe(recipe(max_steps=1))
    monkeypatch.setattr("torch.save", full)
    told = r"checkpoint-2: the checkpoint could not be saved \(only a part.*Writer.*last good one is checkpoint-1"
    with pytest.raises(OSError, match=told):
        train_recipe(recipe())
    assert checkpoints(folder) == ["checkpoint-1"]
    assert not (folder / ".saving").exists()


class SignalAfter(TrainerCallback):
    """Sends a signal to this process while it is inside a step."""

    def __init__(self, step, number):
        self.step, self.number = step, number

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(
    ("preset", "number", "layout"),
    [
        ("sft", signal.SIGHUP, {}),
        # Two steps of a generation, and the stop is after the first.
        ("ptd-grpo", signal.SIGTERM, {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1,
                                      "steps_per_generation": 2}),
    ],
)  # fmt: skip
def test_a_signal_ends_the_run_after_its_step_and_the_run_ends_as_it_would_have(
    recipe, preset, number, layout, monkeypatch
):
    layout = {**layout, "max_steps": 4, "save_strategy": "no", "enable_jit_checkpoint": number == signal.SIGTERM}
    whole = weights(train_recipe(recipe(preset=preset, **layout)))
    shutil.rmtree(Path(recipe(preset=preset, **layout).train["output_dir"]))
    with monkeypatch.context() as patch:
        train = WholeCheckpoints.train

        def interrupted(trainer, *arguments, **keywords):
            trainer.add_callback(SignalAfter(2, number))
            return train(trainer, *arguments, **keywords)

        patch.setattr(WholeCheckpoints, "train", interrupted)
        with pytest.raises(StoppedBySignal, match=f"stopped by {number.name}: .*step 3 of 4 is done and saved"):
            train_recipe(recipe(preset=preset, **layout))
    folder = Path(recipe(preset=preset, **layout).train["output_dir"])
    assert checkpoints(folder) == ["checkpoint-3"]
    assert not (folder / "finished.json").exists()
    train_recipe(recipe(preset=preset, **layout))
    assert weights(folder) == whole


def test_a_run_that_another_process_writes_is_refused(recipe):
    folder = train_recipe(recipe(max_steps=1))
    with sole_writer(folder, "train"), pytest.raises(ValueError, match=r"run: ptdpo train \(process \d+ on .*writing"):
        train_recipe(recipe())


def test_training_refuses_what_the_plan_refuses(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("ptdpo.train.run.PTDTrainer", None)
    with pytest.raises(ValueError, match="one generation takes 2 prompts, but the data has only 1 problems"):
        train_recipe(recipe("data.limit=1"))
    with pytest.raises(ValueError, match="does not hold whole groups of 3"):
        train_recipe(recipe(num_generations=3))
    assert not (tmp_path / "run" / "started.json").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"num_train_epochs": 0.3},
        {"num_train_epochs": 1, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1,
         "steps_per_generation": 3, "tutoring_weight": 0},
        {"num_train_epochs": 1, "num_iterations": 2, "steps_per_generation": 3, "tutoring_weight": 0,
         "per_device_train_batch_size": 8},
    ],
)  # fmt: skip
def test_the_plan_counts_steps_as_transformers_does(recipe, settings):
    asked = recipe(leave_out=("max_steps",), save_steps=3, **settings)
    newest = get_last_checkpoint(str(train_recipe(asked)))
    state = json.loads(Path(newest, "trainer_state.json").read_text())
    assert make_plan(asked).optimiser_steps == state["max_steps"] == state["global_step"]
