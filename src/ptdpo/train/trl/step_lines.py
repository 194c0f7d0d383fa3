"""What a run says on the screen: one readable line per logged step; the rest is in metrics.jsonl."""

import sys
import time
from collections.abc import Mapping
from typing import Any

from tqdm.auto import tqdm
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

# Metric, its words, its format; what a run does not log is left out.
_SHOWN = (
    ("accuracy", "accuracy", ".3f"),
    ("disputed", "disputed", ".2f"),
    ("groups/all_fail", "all fail", ".2f"),
    ("tutored/rollouts", "tutored", ".0f"),
    ("divergence", "divergence", ".3g"),
    ("entropy", "entropy", ".2f"),
    ("completions/mean_length", "length", ".0f"),
)
# Left out where there is nothing to say.
_UNLESS_ZERO = ("disputed",)
# Of fine-tuning, which has no accuracy of answers.
_SHOWN_OF_SFT = (("loss", "loss", ".3f"), ("mean_token_accuracy", "token accuracy", ".3f"))


def step_line(logs: Mapping[str, Any], step: int, steps: int, seconds: float) -> str:
    """Return one line on a step.

    Args:
        logs: its metrics.
        step: how many steps are done.
        steps: how many the run has.
        seconds: mean seconds of a step so far.
    """
    shown = _SHOWN if "accuracy" in logs or "reward" in logs else _SHOWN_OF_SFT
    parts = [
        f"{words} {float(logs[name]):{form}}"
        for name, words, form in shown
        # A mean that is no number is logged as None.
        if logs.get(name) is not None and not (name in _UNLESS_ZERO and float(logs[name]) == 0)
    ]
    left = duration(seconds * (steps - step))
    return "  ".join([f"step {step}/{steps}", *parts, f"{seconds:.1f} s", f"{left} left"])


def duration(seconds: float) -> str:
    """Return a time as people say it: 42 s, 7 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class StepLines(TrainerCallback):
    """Prints a line per logged step, above a bar where a terminal shows one."""

    def __init__(self) -> None:
        self._began, self._first = time.perf_counter(), 0
        self._bar: Any = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock and the bar."""
        self._began, self._first = time.perf_counter(), state.global_step
        if state.is_world_process_zero:
            quiet = bool(args.disable_tqdm) or not sys.stderr.isatty()
            self._bar = tqdm(total=state.max_steps, initial=state.global_step, disable=quiet, dynamic_ncols=True)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(1)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Print the line of a step."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        seconds = (time.perf_counter() - self._began) / max(state.global_step - self._first, 1)
        tqdm.write(step_line(logs, state.global_step, state.max_steps, seconds))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def say_steps_in_lines(trainer: Trainer) -> None:
    """Put ``StepLines`` in the place of transformers' dictionary of a thousand characters."""
    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    trainer.add_callback(StepLines())
