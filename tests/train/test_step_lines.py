"""What a run says on the screen."""

import pytest

from ptdpo.train.trl.step_lines import duration, step_line
from tests.train.helpers import make_trainer

LOGS = {
    "loss": 0.1, "accuracy": "0.25", "groups/all_fail": 0.5, "tutored/rollouts": 6.0, "divergence": 0.00123,
    "entropy": 4.1234, "completions/mean_length": 23.6, "kl": 0.3,
}  # fmt: skip


def test_a_line_says_what_matters_and_how_long_it_will_take():
    assert step_line(LOGS, 20, 80, 3.0) == (
        "step 20/80  accuracy 0.250  all fail 0.50  tutored 6  divergence 0.00123  entropy 4.12  length 24  3.0 s  "
        "3 min left"
    )


def test_disputed_rollouts_are_shown_where_there_are_any():
    assert "disputed 0.25" in step_line(LOGS | {"disputed": 0.25}, 20, 80, 3.0)
    assert "disputed" not in step_line(LOGS | {"disputed": "0.0"}, 20, 80, 3.0)


def test_fine_tuning_has_a_loss_and_what_is_not_logged_is_left_out():
    assert step_line({"loss": 2.5}, 1, 2, 1.0) == "step 1/2  loss 2.500  1.0 s  1 s left"
    assert "divergence" not in step_line({"loss": 1, "accuracy": 1}, 1, 2, 1.0)


@pytest.mark.parametrize(("seconds", "words"), [(42, "42 s"), (420, "7 min"), (11100, "3 h 05 min")])
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_a_run_prints_one_short_line_per_step_and_no_bar_into_a_file(
    tmp_path, tiny_path, processor, train_rows, capsys
):
    make_trainer(tmp_path, tiny_path, processor, train_rows, max_steps=2).train()
    shown = capsys.readouterr()
    lines = [line for line in shown.out.splitlines() if line]
    assert [line.split("  ")[0] for line in lines] == ["step 1/2", "step 2/2"]
    assert max(map(len, lines)) < 160
    assert "it/s" not in shown.err
