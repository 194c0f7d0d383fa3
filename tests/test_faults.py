"""The kill test in its short form; ``make faults`` is the long one."""

import random
import sys

import pytest

from tests import faults
from tests.processes import start


def torment(*arguments):
    sys.argv = ["faults", *arguments]
    sys.exit(faults.main())


@pytest.mark.slow
def test_killed_commands_end_as_if_nobody_had_disturbed_them(tmp_path, tiny_path):
    said = tmp_path / "said.txt"
    given = ["--kills", "train=3", "hints=2", "evaluate=1", "--tiny", tiny_path, "--keep", str(tmp_path / "faults")]
    process = start(torment, *given, said=said)
    process.join()
    assert process.exitcode == 0, said.read_text()
    assert "| train | 3 |" in said.read_text()


@pytest.mark.parametrize(("left", "survived"), [({"calm": 1, "train": 1}, 6), ({"calm": 1, "train": 2}, 0)])
def test_a_kill_counts_as_survived_only_when_the_run_that_it_hit_is_done_and_right(
    tmp_path, monkeypatch, left, survived
):
    monkeypatch.setattr(faults, "start", lambda _, folder, *__: (folder / "operations.txt").write_text("3"))
    monkeypatch.setattr(faults, "wait", lambda *_: [0])
    case = faults.Case("train", lambda _: [], lambda folder: left["calm" if folder.name.endswith("calm") else "train"])
    told = []
    tally = faults.torment(case, tmp_path, 6, random.Random(0), told.append)
    assert (tally.tried, tally.survived) == (6, survived)
    assert any("killed again" in line for line in told)


def test_what_cannot_be_read_after_a_kill_is_a_fault_and_no_traceback(tmp_path, monkeypatch):
    def left(folder):
        if not folder.name.endswith("calm"):
            raise ValueError("checkpoint-2: model.safetensors is missing")
        return 1

    monkeypatch.setattr(faults, "start", lambda _, folder, *__: (folder / "operations.txt").write_text("3"))
    monkeypatch.setattr(faults, "wait", lambda *_: [0])
    told = []
    tally = faults.torment(faults.Case("train", lambda _: [], left), tmp_path, 1, random.Random(0), told.append)
    assert tally.survived == 0
    assert "model.safetensors is missing" in told[0]
