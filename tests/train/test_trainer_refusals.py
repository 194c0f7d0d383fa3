"""What the trainer refuses when it is made, and what it takes."""

from contextlib import nullcontext

import pytest
import torch

from ptdpo.train import PTDConfig, PTDTrainer
from tests.processes import gloo_processes
from tests.train.helpers import (
    always_wrong,
    make_trainer,
    small_settings,
)


def test_a_model_changed_after_loading_is_refused(tmp_path, model, processor, train_rows):
    with torch.no_grad():
        model.lm_head.weight.add_(1.0)
    with pytest.raises(ValueError, match="was changed after it was loaded"):
        make_trainer(tmp_path, model, processor, train_rows)


def test_an_unchanged_model_instance_is_accepted(tmp_path, model, processor, train_rows):
    make_trainer(tmp_path, model, processor, train_rows, reward=always_wrong).train()


def test_routing_needs_the_accuracy_reward(tmp_path, tiny_path, processor, train_rows):
    def style_reward(completions, **_):
        return [0.0] * len(completions)

    with pytest.raises(ValueError, match="style_reward"):
        make_trainer(tmp_path, tiny_path, processor, train_rows, reward=[style_reward], accuracy_reward="graded")


def test_a_graded_reward_in_place_of_the_accuracy_is_refused(tmp_path, tiny_path, processor, train_rows):
    def accuracy_reward(completions, **_):
        return [0.5] * len(completions)

    trainer = make_trainer(tmp_path, tiny_path, processor, train_rows, reward=[accuracy_reward])
    with pytest.raises(ValueError, match=r"0\.5"):
        trainer.train()


@pytest.mark.parametrize(
    ("given", "preset", "setting"),
    [
        ({"tools": [len]}, "hdpo", "tutoring_rollouts"),
        ({"tools": [len]}, "papo-printed", "perception_weight"),
        ({"rollout_func": print}, "dapo", "resampling_rounds"),
    ],
)
def test_tools_are_refused_where_rollouts_are_drawn_again(
    tmp_path, tiny_path, processor, train_rows, given, preset, setting
):
    args = PTDConfig.from_preset(preset, output_dir=str(tmp_path), **small_settings())
    with pytest.raises(ValueError, match=f"{next(iter(given))}: not supported .* set {setting}"):
        PTDTrainer(tiny_path, None, args, train_dataset=train_rows, processing_class=processor, **given)


@pytest.mark.parametrize(
    ("context", "gone", "message"),
    [
        ("hint", ["hint", "prompt_with_hint"], "no column 'hint' or 'prompt_with_hint' .it has .*misspelt"),
        ("solution", ["solution"], "no column 'solution'"),
        ("answer", ["answer"], "no column 'answer'"),
    ],
)
def test_data_without_the_column_that_the_teacher_is_shown_is_refused(
    tmp_path, tiny_path, processor, train_rows, context, gone, message
):
    rows = train_rows.rename_column(gone[0], "misspelt").remove_columns(gone[1:])
    settings = {"tutoring_context": context, "reward": always_wrong}
    with pytest.raises(ValueError, match=f"tutoring_context={context}: train_dataset has {message}"):
        make_trainer(tmp_path, tiny_path, processor, rows, **settings)
    make_trainer(tmp_path, tiny_path, processor, rows, tutoring_weight=0.0, **settings)
    whole = train_rows.remove_columns(gone[1:])
    if context == "solution":
        with pytest.raises(ValueError, match="has nothing in the column 'solution' of any of its 16 rows"):
            make_trainer(tmp_path, tiny_path, processor, whole, **settings)
        whole = whole.map(lambda row: {"solution": f"so it is {row['answer']}"})
    make_trainer(tmp_path, tiny_path, processor, whole, **settings)
    make_trainer(tmp_path, tiny_path, processor, rows, **{**settings, "tutoring_context": "question",
                 "tutoring_teacher": "ema"})  # fmt: skip


@pytest.mark.parametrize("count", [1, 2])
def test_several_processes_want_images_in_all_rows_or_in_none(count):
    """They wait for each other, and a row without images does not visit the vision tower."""
    from types import SimpleNamespace

    from ptdpo.train.trl.setup import check_images

    # As if each of the processes had these rows.
    processes = SimpleNamespace(device="cpu", count=count, sum=lambda counts: count * counts)
    check_images(processes, [{"images": ["a"]}, {"image": "b"}])
    check_images(processes, [{"images": []}, {}])
    mixed = [{"images": ["a"]}, {"images": []}, {"images": []}]
    refused = pytest.raises(ValueError, match="2 of 6 rows of a batch have images: 2 processes need images in all rows")
    with refused if count == 2 else nullcontext():
        check_images(processes, mixed)


@pytest.mark.slow
def test_two_processes_one_without_images_are_told_so(tmp_path, tiny_path, train_rows):
    """A trainer that is made by hand: recipes say it before (``data.without_image``)."""
    train_rows.with_format(None).save_to_disk(str(tmp_path / "rows"))
    gloo_processes("tests.train.mixed_worker", tiny_path, tmp_path, said=tmp_path / "said.txt")
    for rank in range(2):
        assert "4 of 8 rows of a batch have images: 2 processes need" in (tmp_path / f"{rank}.txt").read_text()
