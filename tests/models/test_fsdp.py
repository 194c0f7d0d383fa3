"""FSDP2 on two gloo processes: fused head and shared prefix train as the plain layout with the dense head does."""

import json

import pytest

from tests.processes import gloo_processes

WORKER = "tests.models.fsdp_worker"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["tiny_path", "qwen2_5_path"])
def test_five_steps_under_fsdp2(tmp_path, tiny_path, family, request):
    out = tmp_path / "result.json"
    gloo_processes(WORKER, request.getfixturevalue(family), tiny_path, out, said=tmp_path / "said.txt")
    result = json.loads(out.read_text())
    assert result.pop("moved") > 1e-2
    assert max(result.values()) < 2e-5, result
