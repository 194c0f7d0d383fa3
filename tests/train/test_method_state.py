"""What an entropy floor has seen goes into checkpoints and comes back."""

import pytest

from ptdpo.algo.gates import EntropyFloor, FloorSettings
from ptdpo.train.trl.method_state import FLOOR_FILE, FloorState
from tests.train.helpers import Alternating, make_trainer, metrics

SETTINGS = {"preset": "antisd", "tutoring_entropy_warmup": 2, "max_steps": 3, "save_strategy": "steps", "save_steps": 1}


def test_a_resumed_run_does_not_warm_up_anew(tmp_path, tiny_path, processor, train_rows):
    def trainer(**settings):
        reward = Alternating(2)
        return make_trainer(tmp_path, tiny_path, processor, train_rows, reward=reward, **SETTINGS, **settings)

    trainer().train()
    whole = metrics(trainer())
    assert [line["tutored/open"] for line in whole] == [0.0, 0.0, 1.0]
    resumed = trainer()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    (floor,) = (one.floor for one in resumed.callback_handler.callbacks if isinstance(one, FloorState))
    # The one that the method asks, and not a copy.
    assert resumed.method.floor is floor
    assert floor.first == pytest.approx([line["tutored/teacher_entropy"] for line in whole[:2]], rel=1e-6)
    assert floor.is_open


def test_a_checkpoint_without_it_is_refused(tmp_path):
    state = FloorState(EntropyFloor(FloorSettings(0.9, 1.0, 1)))
    for damage in (None, "{", '{"first": 3}'):
        if damage is not None:
            (tmp_path / FLOOR_FILE).write_text(damage)
        with pytest.raises(ValueError, match="not written with tutoring_entropy_floor"):
            state.restore(str(tmp_path))
