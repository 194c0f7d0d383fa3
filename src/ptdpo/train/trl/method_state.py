"""What the method knows beside weights, in a run's checkpoints: without it a resumed run would begin anew."""

import json
from pathlib import Path
from typing import Any, ClassVar

from transformers import TrainerCallback

from ptdpo.algo.gates import EntropyFloor
from ptdpo.train.method import Method
from ptdpo.train.rollouts.hint_choice import HintChoices

FLOOR_FILE = "entropy_floor.json"
HINTS_FILE = "hint_levels.json"


class MethodState(TrainerCallback):
    """Saves a state as JSON beside each checkpoint, and gives it back."""

    file: ClassVar[str]
    # In the words of an error: what it is, and the setting without which a checkpoint has none.
    called: ClassVar[str]
    setting: ClassVar[str]

    def written(self) -> Any:
        """Return the state."""
        raise NotImplementedError

    def take(self, state: Any) -> None:
        """Take a state; one that is not as ``written`` returns it raises before anything changes."""
        raise NotImplementedError

    def save_beside(self, folder: Path) -> None:
        """Write it into a checkpoint."""
        (folder / self.file).write_text(json.dumps(self.written()) + "\n", encoding="utf-8")

    def restore(self, checkpoint: str) -> None:
        """Read it from a checkpoint.

        Raises:
            ValueError: if the checkpoint has none.
        """
        path = Path(checkpoint) / self.file
        try:
            self.take(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(
                f"{path}: {self.called} cannot be read ({type(error).__name__}): the checkpoint was not written with "
                f"{self.setting}"
            ) from error


class FloorState(MethodState):
    """What an ``EntropyFloor`` has seen: going on without would measure the teacher's first entropy anew.

    Args:
        floor: of the run; changed in place when it is restored.
    """

    file, called, setting = FLOOR_FILE, "the entropy floor of the run", "tutoring_entropy_floor"

    def __init__(self, floor: EntropyFloor) -> None:
        self.floor = floor

    def written(self) -> Any:
        """Return the first entropies, and whether it is open."""
        return {"first": self.floor.first, "is_open": self.floor.is_open}

    def take(self, state: Any) -> None:
        """Take what ``written`` returned."""
        self.floor.first, self.floor.is_open = [float(one) for one in state["first"]], bool(state["is_open"])


class HintState(MethodState):
    """Which hints were chosen: a run that asked again would draw otherwise.

    Args:
        choices: of the run; changed in place when they are restored.
    """

    file, called, setting = HINTS_FILE, "the hints that the run chose", "this tutoring_context"

    def __init__(self, choices: HintChoices) -> None:
        self.choices = choices

    def written(self) -> Any:
        """Return the levels by key."""
        return self.choices.levels

    def take(self, state: Any) -> None:
        """Take what ``written`` returned."""
        levels = {str(key): int(level) for key, level in state.items()}
        self.choices.levels.clear()
        self.choices.levels.update(levels)


def states_of(method: Method) -> list[MethodState]:
    """Return what saves and restores what the method knows beside weights."""
    floor = [] if method.floor is None else [FloorState(method.floor)]
    return [*floor, *([] if method.hint_choices is None else [HintState(method.hint_choices)])]
