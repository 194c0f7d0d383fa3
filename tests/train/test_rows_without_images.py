"""Rows whose column for images says null: TRL takes a batch of them for one with images, of which there are none."""

import pytest
from datasets import Dataset

from tests.train.helpers import largest_difference, make_trainer, parameters


@pytest.fixture
def trained(tmp_path, tiny_path, processor, train_rows):
    def run(name, every, preset, nothing):
        rows = [{**row, **(nothing if every or n % 2 else {})} for n, row in enumerate(train_rows)]
        trainer = make_trainer(
            tmp_path / name, tiny_path, processor, Dataset.from_list(rows), preset=preset, max_steps=2, beta=0.01
        )
        before = parameters(trainer)
        trainer.train()
        return before, parameters(trainer)

    return run


@pytest.mark.parametrize("preset", ["grpo", "ptd-grpo"])
@pytest.mark.parametrize("every", [True, False])
def test_null_is_no_image(trained, every, preset):
    start, expected = trained("list", every, preset, {"images": []})
    assert largest_difference(start, expected) > 0
    _, got = trained("null", every, preset, {"images": None})
    assert largest_difference(got, expected) == 0


@pytest.mark.parametrize("preset", ["grpo", "ptd-grpo"])
def test_null_in_the_column_for_one_image(tmp_path, tiny_path, processor, train_rows, preset):
    rows = [{name: value for name, value in row.items() if name != "images"} | {"image": None} for row in train_rows]
    trainer = make_trainer(tmp_path, tiny_path, processor, Dataset.from_list(rows), preset=preset, max_steps=1)
    trainer.train()
    assert trainer.state.global_step == 1
