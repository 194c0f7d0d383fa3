"""The entropy floor of a run in its checkpoints: without it a resumed run would warm up anew."""

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from ptdpo.algo.gates import EntropyFloor

FLOOR_FILE = "entropy_floor.json"


class FloorState(TrainerCallback):
    """Saves what an ``EntropyFloor`` has seen beside each checkpoint, and gives it back.

    Args:
        floor: of the run; changed in place when it is restored.
    """

    def __init__(self, floor: EntropyFloor) -> None:
        self.floor = floor

    def save_beside(self, folder: Path) -> None:
        """Write it into a checkpoint."""
        state = {"first": self.floor.first, "is_open": self.floor.is_open}
        (folder / FLOOR_FILE).write_text(json.dumps(state) + "\n", encoding="utf-8")

    def restore(self, checkpoint: str) -> None:
        """Read it from a checkpoint.

        Raises:
            ValueError: if the checkpoint has none: going on would measure the teacher's first entropy anew.
        """
        path = Path(checkpoint) / FLOOR_FILE
        try:
            state: Any = json.loads(path.read_text(encoding="utf-8"))
            self.floor.first, self.floor.is_open = [float(one) for one in state["first"]], bool(state["is_open"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: the entropy floor of the run cannot be read ({type(error).__name__}): the checkpoint was "
                "not written with tutoring_entropy_floor"
            ) from error
