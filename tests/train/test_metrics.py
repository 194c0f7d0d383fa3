"""What tables take from metrics.jsonl."""

import math

from ptdpo.train.metrics import LAST_STEPS, last_steps_mean


def test_the_last_steps_that_logged_a_metric_count():
    rows = [{"kl": float(step)} for step in range(LAST_STEPS + 5)] + [{"entropy": 1.0}]
    assert last_steps_mean(rows, "kl") == 5 + (LAST_STEPS - 1) / 2
    assert last_steps_mean(rows, "entropy") == 1.0
    assert math.isnan(last_steps_mean(rows, "loss"))
