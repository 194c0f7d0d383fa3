"""The metrics.jsonl file of a run, written as transformers' trainer logs."""

import json
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ptdpo.folders import append_line, write_text
from ptdpo.runlog import METRICS_FILE
from ptdpo.train.metrics import read_metrics


class MetricsFile(TrainerCallback):
    """Writes one line of ``metrics.jsonl`` per logged step; after a resume no step stands in a file twice.

    ``elapsed`` is the time in seconds since this process began to train.
    """

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Drop lines of steps that are about to be repeated."""
        self._began = time.perf_counter()
        if not state.is_world_process_zero:
            return
        folder = Path(str(args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / METRICS_FILE
        kept = [row for row in read_metrics(path) if row["step"] <= state.global_step] if path.exists() else []
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Append the numbers of one step."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        numbers = {k: float(v) for k, v in logs.items() if _is_number(v)}
        row = {"step": state.global_step, **numbers, "elapsed": time.perf_counter() - self._began}
        append_line(Path(str(args.output_dir)) / METRICS_FILE, json.dumps(row))


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
