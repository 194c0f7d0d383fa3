"""Six steps equal three, a kill, and three more; to the last bit on a CPU."""

import warnings
from contextlib import suppress

import pytest
import torch

from ptdpo.runlog import read_records
from ptdpo.train import PTDConfig
from ptdpo.train.metrics import read_metrics
from tests.train.helpers import Alternating, Staged, always_wrong, make_trainer, parameters, small_settings

EXACT = ("loss", "divergence", "kl", "entropy", "grad_norm", "tutored/tokens", "accuracy")


class Killed(Exception):
    """Stands for a session that is cut off."""


def run(folder, tiny_path, processor, rows, resume=None, kill_after=None, **changes):
    from transformers import TrainerCallback

    class Kill(TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            if kill_after is not None and state.global_step == kill_after:
                raise Killed

    trainer = make_trainer(
        folder, tiny_path, processor, rows, reward=Alternating(3), max_steps=6, save_strategy="steps", save_steps=3,
        learning_rate=1e-2, **changes,
    )  # fmt: skip
    trainer.add_callback(Kill())
    with suppress(Killed):
        trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.mark.parametrize(
    "layout",
    [
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "steps_per_generation": 3,
         "num_generations": 4},
    ],
)  # fmt: skip
def test_a_killed_run_resumes_to_the_last_bit(tmp_path, tiny_path, processor, train_rows, layout):
    whole = run(tmp_path / "whole", tiny_path, processor, train_rows, **layout)
    run(tmp_path / "cut", tiny_path, processor, train_rows, kill_after=4, **layout)
    checkpoint = str(tmp_path / "cut" / "checkpoint-3")
    resumed = run(tmp_path / "cut", tiny_path, processor, train_rows, resume=checkpoint, **layout)
    first, second = parameters(whole), parameters(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)
    rows, again = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "cut"))
    assert [row["step"] for row in again] == [1, 2, 3, 4, 5, 6], "no step is missing or stands twice"
    for name in EXACT:
        assert [row.get(name) for row in rows] == [row.get(name) for row in again], name
    one, other = (read_records(tmp_path / name) for name in ("whole", "cut"))
    assert one.groups
    assert one.groups == other.groups
    assert one.tokens == other.tokens
    assert other.broken == 0


def seen_problems(folder, tiny_path, processor, rows, resume=None, **changes):
    """Train and return the ids of the problems of each generation."""
    seen = []

    def accuracy_reward(completions, id, **_):
        seen.append(sorted(set(id)))
        return [float(n % 2) for n in range(len(completions))]

    trainer = make_trainer(
        folder, tiny_path, processor, rows, reward=accuracy_reward, save_strategy="steps", save_steps=1,
        per_device_train_batch_size=8, gradient_accumulation_steps=1, learning_rate=1e-2, **changes,
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return seen, parameters(trainer)


@pytest.mark.parametrize(
    ("stop", "steps", "layout"),
    [
        (5, 7, {}),  # in the second epoch of four steps
        (4, 6, {}),  # where it begins
        (3, 6, {"num_iterations": 2}),  # inside a generation
        (3, 6, {"num_iterations": 2, "preset": "grpo"}),
    ],
)
def test_a_stop_anywhere_repeats_the_run(tmp_path, tiny_path, processor, train_rows, stop, steps, layout):
    few = train_rows.select(range(8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # save_steps is raised
        whole, first = seen_problems(tmp_path / "whole", tiny_path, processor, few, max_steps=steps, **layout)
        one, _ = seen_problems(tmp_path / "cut", tiny_path, processor, few, max_steps=stop, **layout)
        saved = str(tmp_path / "cut" / f"checkpoint-{stop}")
        two, second = seen_problems(
            tmp_path / "cut", tiny_path, processor, few, resume=saved, max_steps=steps, **layout
        )
    assert one + two == whole
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert "num_iterations" in layout or whole[:3] != whole[4:7], "the second epoch has an order of its own"


def test_rollouts_do_not_fit_another_layout(tmp_path, tiny_path, processor, train_rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        seen_problems(tmp_path, tiny_path, processor, train_rows, max_steps=3, num_iterations=2)
        trainer = make_trainer(
            tmp_path, tiny_path, processor, train_rows, max_steps=4, num_iterations=2, save_strategy="steps",
            save_steps=2, reward=Alternating(2),
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"-3: lies inside a generation.*delete checkpoint-3: checkpoint-2 is"):
        trainer.train(resume_from_checkpoint=True)


def config(tmp_path, **changes):
    return PTDConfig(output_dir=str(tmp_path), **small_settings(save_strategy="steps", **changes))


def test_checkpoints_inside_a_buffer_are_moved_to_its_end_with_a_warning(tmp_path):
    layout = {"gradient_accumulation_steps": 1, "steps_per_generation": 4}
    with pytest.warns(UserWarning, match="save_steps=3 raised to 4"):
        args = config(tmp_path, save_steps=3, **layout)
    assert args.save_steps == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert config(tmp_path, save_steps=8, **layout).save_steps == 8


@pytest.mark.parametrize(
    "settings",
    [
        {"preset": "dapo", "resampling_rounds": 2, "reward": always_wrong},
        {"preset": "papo-printed"},
        {"preset": "opsd", "tutoring_context": "answer", "tutoring_schedule": "cosine"},
        {"preset": "hdpo", "num_iterations": 2, "reward": Staged(own=lambda n: n > 5, drawn=lambda n: n % 2)},
    ],
    ids=lambda settings: settings["preset"],
)
def test_other_methods_resume_to_the_last_bit(tmp_path, tiny_path, processor, train_rows, settings):
    """What they draw, blacken and weigh depends on the step, not on what ran before in the process."""
    shared = {"reward": Alternating(5, 4), "max_steps": 4, "save_strategy": "steps", "save_steps": 2, **settings}
    whole, again = (
        make_trainer(tmp_path / name, tiny_path, processor, train_rows, **shared) for name in ("whole", "again")
    )
    whole.train()
    torch.manual_seed(123)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    mine, reference = parameters(again), parameters(whole)
    assert all(torch.equal(mine[name], reference[name]) for name in reference)
    rows = [read_metrics(tmp_path / name / "metrics.jsonl")[-2:] for name in ("whole", "again")]
    for one, other in zip(*rows, strict=True):
        names = {name for name in one if name in EXACT or name.startswith(("tutored/", "groups/"))}
        assert {name: one[name] for name in names} == {name: other[name] for name in names}
    assert settings["preset"] != "hdpo" or rows[1][0]["tutored/exchanged"] == 0.25


def test_a_share_of_steps_cannot_be_aligned_and_is_refused(tmp_path):
    with pytest.raises(ValueError, match="multiple of 2"):
        config(tmp_path, save_steps=0.5, gradient_accumulation_steps=1, steps_per_generation=2)
