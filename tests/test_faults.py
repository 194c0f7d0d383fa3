"""The kill test in its short form; ``make faults`` is the long one."""

import itertools
import os
import random
import re
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
    # A kill that came too late is tried again, so there may be more tries than kills that hit.
    assert re.search(r"^\| train \| \d+ \| 3 \| 3 \|$", said.read_text(), re.MULTILINE), said.read_text()


def killing(monkeypatch, *codes):
    """Let runs end with these codes in turn, again and again, after one that nobody disturbs."""
    turn = itertools.chain([0], itertools.cycle(codes))
    monkeypatch.setattr(faults, "start", lambda _, folder, *__: (folder / "operations.txt").write_text("3"))
    monkeypatch.setattr(faults, "wait", lambda *_: [next(turn)])


@pytest.mark.parametrize(("left", "survived"), [({"calm": 1, "train": 1}, 6), ({"calm": 1, "train": 2}, 0)])
def test_a_kill_counts_as_survived_only_when_the_run_that_it_hit_is_done_and_right(
    tmp_path, monkeypatch, left, survived
):
    killing(monkeypatch, 0)
    torn = []
    monkeypatch.setattr(faults, "_killed", lambda *_: (torn.append(1), ("kill", [-9]))[1])
    case = faults.Case("train", lambda _: [], lambda folder: left["calm" if folder.name.endswith("calm") else "train"])
    told = []
    tally = faults.torment(case, tmp_path, 6, random.Random(0), told.append)
    assert (tally.tried, tally.hit, tally.survived) == (6, 6, survived)
    assert bool(tally.faults) == (survived == 0)
    assert any("killed again" in line for line in told)


def test_kills_go_on_until_so_many_have_hit(tmp_path, monkeypatch):
    killing(monkeypatch, 0)
    turn = itertools.cycle([[0], [-9], [0], [75]])
    monkeypatch.setattr(faults, "_killed", lambda *_: ("kill", next(turn)))
    tally = faults.torment(faults.Case("train", lambda _: [], lambda _: 1), tmp_path, 4, random.Random(0), print)
    assert (tally.tried, tally.hit, tally.survived) == (8, 4, 4)


@pytest.mark.parametrize(
    ("codes", "well"),
    [([0], True), ([75, 75], True), ([-9], True), ([-9, 1], True), ([-9, 0], True), ([1], False), ([0, 1], False)],
)
def test_a_process_may_fail_when_its_partner_was_killed(codes, well):
    assert faults._ended_as_they_may(codes) == well


def test_kills_that_never_hit_end(tmp_path, monkeypatch):
    killing(monkeypatch, 0)
    monkeypatch.setattr(faults, "_killed", lambda *_: ("kill", [0]))
    tally = faults.torment(faults.Case("train", lambda _: [], lambda _: 1), tmp_path, 2, random.Random(0), print)
    assert (tally.tried, tally.hit) == (2 * faults.TRIES, 0)


def test_what_cannot_be_read_after_a_kill_is_a_fault_and_no_traceback(tmp_path, monkeypatch):
    def left(folder):
        if not folder.name.endswith("calm"):
            raise ValueError("checkpoint-2: model.safetensors is missing")
        return 1

    killing(monkeypatch, -9, 0)
    told = []
    tally = faults.torment(faults.Case("train", lambda _: [], left), tmp_path, 1, random.Random(0), told.append)
    assert (tally.hit, tally.survived) == (1, 0)
    assert "model.safetensors is missing" in told[0]


@pytest.mark.parametrize(("die_at", "left"), [(1, b"a"), (2, b"abcd"), (3, b"abcd"), (4, b"abcdefg")])
def test_a_kill_at_a_write_leaves_all_of_it_or_half_or_nothing(tmp_path, monkeypatch, die_at, left):
    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    for name in ("write", "replace", "rename", "fsync", "unlink", "mkdir"):
        monkeypatch.setattr(os, name, getattr(os, name))
    monkeypatch.setattr(os, "kill", kill)
    file = tmp_path / "lines.txt"
    with file.open("wb") as opened:
        faults._count_file_operations(None, die_at)
        for part in (b"ab", b"cd", b"ef", b"gh")[: die_at - 1]:
            os.write(opened.fileno(), part)
        with pytest.raises(Killed):
            os.write(opened.fileno(), (b"ab", b"cd", b"ef", b"gh")[die_at - 1])
    assert file.read_bytes() == left
