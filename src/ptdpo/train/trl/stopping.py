"""Training that ends after the optimiser step in which a signal came, with a checkpoint."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_jit_checkpoint import JITCheckpointCallback

from ptdpo.signals import SIGNALS, StopRequest


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


@contextmanager
def own_signals_only() -> Iterator[None]:
    """Keep the handlers of signals while a trainer is made: with ``enable_jit_checkpoint`` it would take SIGTERM's."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def stop_after_step(trainer: Trainer, request: StopRequest) -> None:
    """Let signals end the training of a trainer; what transformers has for it would mark the run as done."""
    trainer.remove_callback(JITCheckpointCallback)
    trainer.add_callback(StopAfterStep(request))


class EndUnless(TrainerCallback):
    """Ends training by the exception that a check raises, before each step and checkpoint."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Check."""
        self._check()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Check, before a checkpoint is saved."""
        self._check()


def end_unless(trainer: Any, check: Callable[[], None]) -> None:
    """Let a check end the training of a trainer by what it raises."""
    trainer.add_callback(EndUnless(check))


def _on_any_process(number: int, device: torch.device) -> int:
    if not (distributed.is_available() and distributed.is_initialized()):
        return number
    seen = torch.tensor(number, device=device)
    distributed.all_reduce(seen, op=distributed.ReduceOp.MAX)
    return int(seen)
