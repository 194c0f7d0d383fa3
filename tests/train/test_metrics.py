"""What tables take from metrics.jsonl."""

import math
import os

import pytest

from ptdpo.train.metrics import LAST_STEPS, last_steps_mean, read_metrics


def test_the_last_steps_that_logged_a_metric_count():
    rows = [{"kl": float(step)} for step in range(LAST_STEPS + 5)] + [{"entropy": 1.0}]
    assert last_steps_mean(rows, "kl") == 5 + (LAST_STEPS - 1) / 2
    assert last_steps_mean(rows, "entropy") == 1.0
    assert math.isnan(last_steps_mean(rows, "loss"))


def test_a_pipe_is_not_read_for_ever(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match="is a folder, a pipe or a device, not a metrics file"):
        read_metrics(tmp_path / "metrics.jsonl")
