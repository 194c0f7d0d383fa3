"""Training as most tests of this folder want it."""

import pytest

from tests.train.helpers import make_trainer


@pytest.fixture
def run(tmp_path, tiny_path, processor, train_rows):
    """Train with some settings and return the trainer."""

    def start(name="run", model=None, rows=None, **settings):
        trainer = make_trainer(tmp_path / name, model or tiny_path, processor, rows or train_rows, **settings)
        trainer.train()
        return trainer

    return start
