"""Run by two gloo processes: the run of ``tests.engines.runs`` with a vLLM in each, by DDP or by FSDP2."""

import json
import os
import warnings
from pathlib import Path

import pytest
from torch.distributed.tensor import DTensor


def main(engine, path, folder):
    """Write by when engine and trainer were how far apart on this process."""
    warnings.simplefilter("ignore")
    from tests.engines.runs import Run, rows_of, start_plainly
    from tests.train.checkpoint_worker import SHIMS

    SHIMS[engine]()
    with pytest.MonkeyPatch.context() as patched:
        start_plainly(patched, {})
        sharded = {"fsdp": True} if engine == "fsdp" else {}
        ran = Run(path, rows_of("several"), Path(folder) / "run", patched, per_device_train_batch_size=4, **sharded)
    assert ran.trainer.accelerator.num_processes == 2
    assert any(isinstance(each, DTensor) for each in ran.trainer.model.parameters()) == (engine == "fsdp")
    found = {when: [compared.mean, len(compared.ids)] for when, compared in ran.found.items()}
    Path(folder, f"{os.environ['RANK']}.json").write_text(json.dumps(found))
