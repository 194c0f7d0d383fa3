"""FSDP2 on two gloo processes: fused head and shared prefix train as the plain layout with the dense head does."""

import json
from pathlib import Path

import pytest

from tests.torchrun import torchrun

WORKER = Path(__file__).with_name("fsdp_worker.py")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["tiny_path", "qwen2_5_path"])
def test_five_steps_under_fsdp2(tmp_path, tiny_path, family, request):
    out = tmp_path / "result.json"
    torchrun(WORKER, request.getfixturevalue(family), tiny_path, out)
    result = json.loads(out.read_text())
    assert result.pop("moved") > 1e-2
    assert max(result.values()) < 2e-5, result
