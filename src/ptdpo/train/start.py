"""The model that a run starts from, as the engine loads it: by the path of a whole model."""

import os
from contextlib import nullcontext
from pathlib import Path

from accelerate import PartialState

from ptdpo.evaluate.fingerprint import model_fingerprint
from ptdpo.models.adapters import read_adapter
from ptdpo.models.merging import save_merged


def whole_start(model: str, folder: Path, *, use_cpu: bool) -> str:
    """Return the path of the start model; an adapter is merged into a model below the run's folder first.

    Policy, reference and teacher are loaded by that path. The first process merges, the others wait; a later run of
    the same adapter takes what is there.

    Args:
        model: folder or hub id.
        folder: of the run.
        use_cpu: whether the run trains on the CPU.

    Raises:
        ValueError: if the adapter does not fit its base.
    """
    if read_adapter(model) is None:
        return model
    merged = folder / f"start-{model_fingerprint(model)[:8]}"
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    with PartialState(cpu=use_cpu).main_process_first() if several else nullcontext():
        if not merged.is_dir():
            save_merged(model, merged)
    return str(merged)
