"""Rollouts come back to the last bit, and nothing but records of ptdpo is ever made from a file."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file

from ptdpo.algo.teacher_topk import TeacherTopK
from ptdpo.train.checkpoints.buffer import read_buffer, write_buffer
from ptdpo.tutor.teacher import TeacherReading


def same(first, second):
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if dataclasses.is_dataclass(first):
        names = [field.name for field in dataclasses.fields(first)]
        return type(first) is type(second) and all(same(getattr(first, n), getattr(second, n)) for n in names)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return type(first) is type(second) and len(first) == len(second) and all(map(same, first, second))
    return type(first) is type(second) and first == second


def test_nested_rollouts_come_back(tmp_path):
    head = torch.randn(5, 3)
    read = TeacherTopK(torch.randn(2, 3).bfloat16(), torch.tensor([[1, 2], [3, 4]]), torch.randn(2, 2),
                       torch.tensor([0.5, float("-inf")]), torch.randn(2), 0.7, head)  # fmt: skip
    whole = torch.arange(12).view(4, 3)
    content = [
        {
            "ids": whole[:2],
            "mask": torch.ones(2, 3, dtype=torch.bool),
            "tutoring": [TeacherReading(True, read, "a"), None],
        },
        {
            "ids": whole[2:],
            "scale": 0.1,
            "names": ("x", 3),
            "tutoring": [TeacherReading(False), TeacherReading(True, read)],
        },
    ]
    write_buffer(tmp_path / "b.safetensors", content)
    found = read_buffer(tmp_path / "b.safetensors")
    assert same(content, found)
    assert found[0]["tutoring"][0].teacher.weight is found[1]["tutoring"][1].teacher.weight, "one head, kept once"


def test_what_cannot_be_kept_is_refused(tmp_path):
    with pytest.raises(ValueError, match="rollouts hold a set"):
        write_buffer(tmp_path / "b.safetensors", [{"a": {1, 2}}])


@pytest.mark.parametrize("named", [["os", "system"], ["ptdpo.cli", "main"], ["ptdpo.config", "PRESETS"]])
def test_a_file_cannot_call_anything(tmp_path, named):
    tree = json.dumps({"record": named, "fields": {}})
    save_file({"0": torch.zeros(1)}, tmp_path / "b.safetensors", metadata={"tree": tree})
    with pytest.raises(ValueError, match="which is no record of ptdpo"):
        read_buffer(tmp_path / "b.safetensors")


def test_another_file_is_named(tmp_path):
    (tmp_path / "b.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"b\.safetensors: the rollouts"):
        read_buffer(tmp_path / "b.safetensors")
