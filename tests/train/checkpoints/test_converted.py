"""Checkpoints of one layout in the files of another."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save, torch_save_to_dcp

from ptdpo.train.checkpoints.converted import (
    by_names,
    by_places,
    check_form,
    converted_optimiser,
    converted_weights,
    form_of,
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


@pytest.fixture
def shards(tmp_path, sharded):
    folder = tmp_path / "checkpoint-6"
    folder.mkdir()
    for name, content in (("pytorch_model_fsdp_0", {"model": {**WEIGHTS, "head": WEIGHTS["a"]}}),
                          ("optimizer_0", {"optimizer": by_names(PLAIN, GROUPS)})):  # fmt: skip
        torch.save(content, tmp_path / "whole.pt")
        torch_save_to_dcp(tmp_path / "whole.pt", folder / name)
    (folder / "scheduler.pt").write_text("as it was")
    return folder


@pytest.fixture
def checkpoints(plain, sharded, shards):
    return {"plain": plain, "fsdp": sharded, "shards": shards}


def weights_in(folder, form):
    if form == "plain":
        return load_file(folder / "model.safetensors")
    if form == "fsdp":
        return torch.load(folder / "pytorch_model_fsdp.bin", weights_only=True)
    dcp_to_torch_save(folder / "pytorch_model_fsdp_0", folder / "read.pt")
    return torch.load(folder / "read.pt", weights_only=True)["model"]


def state_in(folder, form):
    if form == "shards":
        dcp_to_torch_save(folder / "optimizer_0", folder / "read.pt")
        return torch.load(folder / "read.pt", weights_only=True)["optimizer"]
    name = {"plain": "optimizer.pt", "fsdp": "optimizer.bin"}[form]
    return torch.load(folder / name, weights_only=True)


@pytest.mark.parametrize("to", ["plain", "fsdp", "shards"])
@pytest.mark.parametrize("form", ["plain", "fsdp", "shards"])
def test_every_form_in_the_files_of_every_other(checkpoints, form, to):
    checkpoint = checkpoints[form]
    before = sorted(path.name for path in checkpoint.iterdir())
    assert form_of(checkpoint) == form
    assert needs_conversion(checkpoint, to) == (form != to)
    if form == to:
        return
    with converted_weights(checkpoint, {"head": "a"}, to) as folder:
        weights = weights_in(folder, to)
        assert form == "fsdp" or (folder / "scheduler.pt").read_text() == "as it was"
    assert weights.keys() == WEIGHTS.keys() | (set() if to == "plain" else {"head"})
    assert all(torch.equal(weights[name], WEIGHTS[name]) for name in WEIGHTS)
    with converted_optimiser(checkpoint, GROUPS, to) as folder:
        state = state_in(folder, to)
        assert [name for name in ("optimizer.pt", "optimizer.bin", "optimizer_0") if (folder / name).exists()] == [
            {"plain": "optimizer.pt", "fsdp": "optimizer.bin", "shards": "optimizer_0"}[to]
        ]
    assert state == (PLAIN if to == "plain" else by_names(PLAIN, GROUPS))
    assert not folder.exists()
    assert sorted(path.name for path in checkpoint.iterdir()) == before


def test_other_parameters_are_refused(plain, sharded, shards):
    for checkpoint, groups, to, named in (
        (sharded, [["a", "b"], ["c"]], "plain", "optimizer.bin"), (plain, [["a"], ["b"]], "fsdp", "optimizer.pt"),
        (shards, [["a", "b"], ["c"]], "plain", "optimizer_0"),
    ):  # fmt: skip
        with (
            pytest.raises(ValueError, match=f"{named}: its optimiser has other parameters than this run's"),
            converted_optimiser(checkpoint, groups, to),
        ):
            pass


def test_what_cannot_be_gone_on_from_has_no_form(tmp_path, plain):
    assert form_of(tmp_path) is None
    assert not needs_conversion(tmp_path, "fsdp")
    (plain / "optimizer.pt").unlink()
    assert form_of(plain) is None


def test_deepspeeds_files_and_others_are_not_exchanged(tmp_path, plain):
    zero = tmp_path / "checkpoint-7"
    (zero / "global_step7").mkdir(parents=True)
    # ZeRO-2 has whole weights too: without its optimiser a run would begin anew from them, without a word.
    save_file(WEIGHTS, zero / "model.safetensors")
    check_form(zero, "deepspeed")
    check_form(plain, "shards")
    assert not needs_conversion(zero, "plain")
    with pytest.raises(ValueError, match=r"checkpoint-7: was written by DeepSpeed and cannot go on under one process"):
        check_form(zero, "plain")
    with pytest.raises(ValueError, match=r"was written by one process or DDP and cannot go on under DeepSpeed"):
        check_form(plain, "deepspeed")
    assert not needs_conversion(plain, "deepspeed")
