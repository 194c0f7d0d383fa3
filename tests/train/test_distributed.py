"""Two gloo processes through torchrun give the step of one process, wherever the failures are."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.torchrun import torchrun
from tests.train.helpers import largest_difference, make_trainer, parameters

WORKER = Path(__file__).with_name("distributed_worker.py")
# Which of the eight rollouts of a step are right; four to a process.
PATTERNS = {
    "spread": [1, 0, 0, 1, 0, 1, 1, 0],
    "all-on-first": [0, 0, 1, 0, 1, 1, 1, 1],
    "all-on-second": [1, 1, 1, 1, 0, 0, 0, 0],
    "none": [1] * 8,
    "everywhere": [0] * 8,
    # The last, because the worker then splits unequally: one process has one part, the other two.
    "spread-in-parts": [1, 0, 0, 1, 0, 1, 1, 0],
}


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory, tiny_path, train_rows):
    """Parameters and metrics after one optimiser step on two processes, per pattern."""
    folder = tmp_path_factory.mktemp("ddp")
    train_rows.save_to_disk(str(folder / "rows"))
    job = {"model": tiny_path, "rows": str(folder / "rows"), "out": str(folder), "patterns": PATTERNS}
    (folder / "job.json").write_text(json.dumps(job))
    torchrun(WORKER, folder / "job.json")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_two_processes_equal_one(two_processes, tmp_path, tiny_path, processor, train_rows, name):
    from tests.train.distributed_worker import SETTINGS, fixed_rollouts

    result = json.loads((two_processes / f"{name}.json").read_text())
    assert result["tutored"] == PATTERNS[name].count(0), "the count is that of both processes"
    trainer = make_trainer(tmp_path, tiny_path, processor, train_rows, **{**SETTINGS, "per_device_train_batch_size": 8})
    fixed_rollouts(trainer, PATTERNS[name])
    start = parameters(trainer)
    trainer.train()
    theirs = load_file(two_processes / f"{name}.safetensors")
    assert trainer._tutored_tokens == result["tokens"]
    assert largest_difference(parameters(trainer), theirs) < 2e-6
    if name != "none":
        assert largest_difference(start, theirs) > 1e-4
    assert torch.is_tensor(next(iter(theirs.values())))
