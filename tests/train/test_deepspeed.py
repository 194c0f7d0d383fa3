"""DeepSpeed ZeRO-2 and ZeRO-3 on two gloo processes train as plain data parallelism does, wherever the failures are."""

import importlib.util
import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.torchrun import torchrun
from tests.train.helpers import largest_difference

WORKER = Path(__file__).with_name("deepspeed_worker.py")
SPREAD, ALL_ON_FIRST = [1, 0, 0, 1, 0, 1, 1, 0], [0, 0, 1, 0, 1, 1, 1, 1]
RUNS = {
    # The teacher is the reference that TRL loads.
    "reference": {"pattern": SPREAD, "settings": {}},
    # The teacher is loaded by us, and read on one process only. Scores of old and current policy differ.
    "own-teacher": {"pattern": ALL_ON_FIRST, "settings": {"beta": 0.0, "num_iterations": 2}},
    "current-teacher": {"pattern": ALL_ON_FIRST, "settings": {"tutoring_teacher": "current"}},
    "dense": {"pattern": SPREAD, "settings": {"head": "dense", "share_prefix": False}},
    "full-support": {"pattern": ALL_ON_FIRST, "settings": {"tutoring_support": "full"}},
    "accumulate": {
        "pattern": SPREAD,
        "settings": {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2, "num_generations": 2},
    },
    "nothing-tutored-at-first": {"pattern": [1] * 8, "settings": {}},
    "adapter": {"pattern": ALL_ON_FIRST, "adapter": True, "settings": {}},
    "grpo": {"pattern": SPREAD, "settings": {"preset": "grpo", "beta": 0.05}},
    # Greedy, so that all engines draw the same tokens.
    "generate": {"pattern": SPREAD, "generate": True, "settings": {"top_k": 1}},
}
METRICS = ("loss", "grad_norm", "entropy", "kl", "divergence", "tutored/tokens")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("deepspeed") is None,
        reason="DeepSpeed is not installed: pip install -e '.[deepspeed]'",
    ),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_path, train_rows):
    """Folders with parameters and log of every run, by ZeRO stage; ``None``: without DeepSpeed."""
    base = tmp_path_factory.mktemp("deepspeed")
    train_rows.with_format(None).save_to_disk(str(base / "rows"))
    folders = {}
    for stage in (None, 2, 3):
        folder = folders[stage] = base / f"stage-{stage}"
        folder.mkdir()
        job = {"model": tiny_path, "rows": str(base / "rows"), "out": str(folder), "stage": stage, "runs": RUNS}
        (folder / "job.json").write_text(json.dumps(job))
        torchrun(WORKER, folder / "job.json", **({} if stage is None else {"DS_ACCELERATOR": "cpu"}))
    return folders


@pytest.mark.parametrize("name", sorted(RUNS))
@pytest.mark.parametrize("stage", [2, 3])
def test_a_few_steps_equal_plain_data_parallelism(trained, stage, name):
    theirs, expected = (load_file(trained[engine] / f"{name}.safetensors") for engine in (stage, None))
    start = load_file(trained[None] / f"{name}-start.safetensors")
    assert largest_difference(theirs, expected) < 2e-6
    assert largest_difference(start, expected) > 1e-3
    logs = [json.loads((trained[engine] / f"{name}.json").read_text()) for engine in (stage, None)]
    compared = 0
    for mine, plain in zip(*logs, strict=True):
        for metric in plain.keys() & set(METRICS):
            assert mine[metric] == pytest.approx(plain[metric], rel=1e-4, abs=1e-5), metric
            compared += 1
    assert compared > len(METRICS)
