"""Training that ends after the optimiser step in which a signal came, with a checkpoint."""

from typing import Any

import torch
from torch import distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ptdpo.signals import StopRequest


class StopAfterStep(TrainerCallback):
    """Saves and ends when any process was asked to, in the same step on all of them."""

    def __init__(self, request: StopRequest) -> None:
        self.request = request

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Ask transformers for a checkpoint and the end."""
        self.request.number = _on_any_process(self.request.number, args.device)
        # A step that is the last one ends the run by itself.
        if self.request.number and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True


def _on_any_process(number: int, device: torch.device) -> int:
    if not (distributed.is_available() and distributed.is_initialized()):
        return number
    seen = torch.tensor(number, device=device)
    distributed.all_reduce(seen, op=distributed.ReduceOp.MAX)
    return int(seen)
