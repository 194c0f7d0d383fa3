"""FSDP2 on two gloo processes: fused head and shared prefix train as the plain layout with the dense head does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.test_distributed import free_port

WORKER = Path(__file__).with_name("fsdp_worker.py")


@pytest.mark.slow
def test_five_steps_under_fsdp2(tmp_path, tiny_path):
    out = tmp_path / "result.json"
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port()),
        str(WORKER), tiny_path, str(out),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=400)
    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads(out.read_text())
    assert result.pop("moved") > 1e-2
    assert max(result.values()) < 2e-5, result
