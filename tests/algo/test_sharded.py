"""Heads in shards are gathered, with the mean gradient over processes; those of DeepSpeed are refused."""

import json

import pytest
import torch

from ptdpo.algo.sharded import whole
from tests.processes import gloo_processes

WORKER = "tests.algo.sharded_worker"


def test_a_dtensor_head_equals_a_plain_one(tmp_path):
    gloo_processes(WORKER, tmp_path / "result.json", said=tmp_path / "said.txt")
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result) == {"own tokens", "same tokens", "hybrid"}
    assert max(result.values()) < 1e-12, result


def test_a_plain_weight_is_itself():
    weight = torch.nn.Parameter(torch.randn(3, 2))
    assert whole(weight) is weight


def test_a_parted_weight_is_refused():
    weight = torch.nn.Parameter(torch.empty(0))
    weight.ds_id, weight.ds_shape = 1, torch.Size([9, 2])
    with pytest.raises(ValueError, match=r"\(9, 2\) is parted by DeepSpeed ZeRO-3"):
        whole(weight)
