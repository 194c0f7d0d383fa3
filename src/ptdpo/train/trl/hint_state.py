"""The chosen hints of a run in its checkpoints: without them a resumed run would ask again, and draw otherwise."""

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from ptdpo.train.method import Method
from ptdpo.train.rollouts.hint_choice import HintChoices
from ptdpo.train.trl.floor_state import FloorState

HINTS_FILE = "hint_levels.json"


class HintState(TrainerCallback):
    """Saves which hints were chosen beside each checkpoint, and gives them back.

    Args:
        choices: of the run; changed in place when they are restored.
    """

    def __init__(self, choices: HintChoices) -> None:
        self.choices = choices

    def save_beside(self, folder: Path) -> None:
        """Write them into a checkpoint."""
        (folder / HINTS_FILE).write_text(json.dumps(self.choices.levels, indent=1) + "\n", encoding="utf-8")

    def restore(self, checkpoint: str) -> None:
        """Read them from a checkpoint.

        Raises:
            ValueError: if the checkpoint has none.
        """
        path = Path(checkpoint) / HINTS_FILE
        try:
            state: Any = json.loads(path.read_text(encoding="utf-8"))
            levels = {str(key): int(level) for key, level in state.items()}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise ValueError(
                f"{path}: the hints that the run chose cannot be read ({type(error).__name__}): the checkpoint was not "
                "written with this tutoring_context"
            ) from error
        self.choices.levels.clear()
        self.choices.levels.update(levels)


# What of the method's a checkpoint holds.
MethodState = FloorState | HintState


def states_of(method: Method) -> list[TrainerCallback]:
    """Return what saves and restores what the method knows beside weights."""
    floor = [] if method.floor is None else [FloorState(method.floor)]
    return [*floor, *([] if method.hint_choices is None else [HintState(method.hint_choices)])]
