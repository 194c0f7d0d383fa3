"""Generations of which TRL's logs are to know nothing."""

from collections.abc import Iterator
from contextlib import contextmanager

from trl import GRPOTrainer


@contextmanager
def metrics_kept(trainer: GRPOTrainer, prefix: str = "") -> Iterator[None]:
    """While this lasts, nothing is added to the training metrics whose names begin so."""
    metrics = trainer._metrics["train"]
    before = {name: len(values) for name, values in metrics.items()}
    try:
        yield
    finally:
        for name, values in metrics.items():
            if name.startswith(prefix):
                del values[before.get(name, 0) :]
