"""A head whose vocabulary is parted over processes gives the dense numbers, values and gradients, on every process."""

import json

import pytest

from ptdpo.algo.divergence import Kind, Support, Tail
from tests.processes import gloo_processes

WORKER = "tests.algo.sharded_head_worker"


@pytest.mark.parametrize("sizes", [(21, 16), (20, 3, 9, 5)], ids=["two", "four"])
def test_parted_heads_equal_the_dense_one(sizes, tmp_path):
    gloo_processes(WORKER, tmp_path, json.dumps(sizes), count=len(sizes), said=tmp_path / "said.txt")
    for rank in range(len(sizes)):
        apart = json.loads((tmp_path / f"{rank}.json").read_text())
        assert len(apart["differences"]) == 2 * (3 * 3 * 3 - 3) + 2, "every kind, support and tail; two k; no teacher"
        assert {name: value for name, value in apart["differences"].items() if not value < 1e-10} == {}
        assert "the vocabulary has 99 ids" in apart["too many ids"]
        assert f"processes [{len(sizes) - 1}] of the group hold none" in apart["padding only"]
        assert "teacher and student must part the vocabulary alike" in apart["another shard"]
        assert "targets must lie in [0, 37)" in apart["target of nobody"]


def test_the_settings_counted_above_are_all():
    choices = [len(choice.__args__) for choice in (Kind, Support, Tail)]
    assert choices == [3, 3, 3]
