"""Checkpoints of one layout in the files of another."""

import pytest
import torch
from safetensors.torch import save_file

from ptdpo.train.checkpoints.converted import (
    by_names,
    by_places,
    converted_optimiser,
    converted_weights,
    needs_conversion,
)

GROUPS = [["a", "c"], ["b"]]
WEIGHTS = {"a": torch.ones(2), "b": torch.zeros(1), "c": torch.full((3,), 2.0)}
PLAIN = {
    "state": {place: {"step": torch.tensor(4.0), "exp_avg": torch.full((1,), float(place))} for place in range(3)},
    "param_groups": [{"lr": 0.1, "params": [0, 1]}, {"lr": 0.2, "params": [2]}],
}


@pytest.fixture
def plain(tmp_path):
    folder = tmp_path / "checkpoint-4"
    folder.mkdir()
    save_file(WEIGHTS, folder / "model.safetensors")
    torch.save(PLAIN, folder / "optimizer.pt")
    (folder / "scheduler.pt").write_text("as it was")
    return folder


@pytest.fixture
def sharded(tmp_path, plain):
    folder = tmp_path / "checkpoint-5"
    folder.mkdir()
    save_file(WEIGHTS, folder / "model.safetensors")
    torch.save(WEIGHTS, folder / "pytorch_model_fsdp.bin")
    torch.save(by_names(PLAIN, GROUPS), folder / "optimizer.bin")
    return folder


def test_states_by_names_and_by_places_say_the_same():
    named = by_names(PLAIN, GROUPS)
    assert {name: values["exp_avg"].item() for name, values in named["state"].items()} == {"a": 0, "c": 1, "b": 2}
    assert [group["params"] for group in named["param_groups"]] == GROUPS
    assert [group["lr"] for group in named["param_groups"]] == [0.1, 0.2]
    assert by_places(named, GROUPS) == PLAIN
    # The names of a group may stand in any order in the file.
    turned = [{**group, "params": group["params"][::-1]} for group in named["param_groups"]]
    assert by_places({**named, "param_groups": turned}, GROUPS) == PLAIN


def test_only_a_checkpoint_of_another_layout_is_converted(tmp_path, plain, sharded):
    assert [needs_conversion(plain, sharded=wanted) for wanted in (False, True)] == [False, True]
    assert [needs_conversion(sharded, sharded=wanted) for wanted in (False, True)] == [True, False]
    assert not needs_conversion(tmp_path, sharded=True)
    (plain / "model.safetensors").unlink()
    assert not needs_conversion(plain, sharded=True)


def test_a_plain_checkpoint_for_fsdp(plain):
    with converted_weights(plain, {"head": "a"}, sharded=True) as folder:
        weights = torch.load(folder / "pytorch_model_fsdp.bin", weights_only=True)
        assert (folder / "scheduler.pt").read_text() == "as it was"
    assert weights.keys() == {"a", "b", "c", "head"}
    assert torch.equal(weights["head"], WEIGHTS["a"])
    with converted_optimiser(plain, GROUPS, sharded=True) as folder:
        assert torch.load(folder / "optimizer.bin", weights_only=True) == by_names(PLAIN, GROUPS)
        assert not (folder / "optimizer.pt").exists()
    assert not folder.exists()
    assert {path.name for path in plain.iterdir()} == {"model.safetensors", "optimizer.pt", "scheduler.pt"}


def test_a_checkpoint_of_fsdp_for_one_process(sharded):
    with converted_weights(sharded, {}, sharded=False) as folder:
        assert not (folder / "pytorch_model_fsdp.bin").exists()
        assert (folder / "model.safetensors").exists()
    with converted_optimiser(sharded, GROUPS, sharded=False) as folder:
        assert torch.load(folder / "optimizer.pt", weights_only=True) == PLAIN
        assert not (folder / "optimizer.bin").exists()


def test_other_parameters_are_refused(plain, sharded):
    with (
        pytest.raises(ValueError, match=r"optimizer\.bin: its optimiser has other parameters than this run's"),
        converted_optimiser(sharded, [["a", "b"], ["c"]], sharded=False),
    ):
        pass
    with (
        pytest.raises(ValueError, match=r"optimizer\.pt: its optimiser has other parameters"),
        converted_optimiser(plain, [["a"], ["b"]], sharded=True),
    ):
        pass
