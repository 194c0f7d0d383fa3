"""Jobs are done once, in their order as far as they are ready, and not twice at the same time."""

import fcntl

import pytest

from ptdpo.signals import StoppedBySignal, StopRequest
from ptdpo.study.jobs import Job
from ptdpo.study.run import _work


class Board:
    """Jobs that only note that they were done."""

    def __init__(self, **needs):
        self.did = []
        self.jobs = [Job(name, self._all(after), self._all([name]), self._doing(name)) for name, after in needs.items()]

    def _all(self, names):
        return lambda: all(name in self.did for name in names)

    def _doing(self, name):
        return lambda: self.did.append(name)


def work(board, tmp_path, stop=None):
    said = []
    _work(board.jobs, tmp_path, said.append, stop or StopRequest())
    return said


def test_jobs_wait_for_what_they_need_and_come_in_order_otherwise(tmp_path):
    board = Board(test=["tuned"], tuned=["world"], world=[], last=[])
    said = work(board, tmp_path)
    assert board.did == ["world", "tuned", "test", "last"]
    assert said[0] == "world (4 left)"
    assert work(board, tmp_path) == []


def test_a_job_of_another_process_is_passed_over_until_it_is_done(tmp_path, monkeypatch):
    board = Board(first=[], second=[])
    with (tmp_path / "first.lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        monkeypatch.setattr("ptdpo.study.run.time.sleep", lambda _: board.did.append("first"))
        work(board, tmp_path)
    assert board.did == ["second", "first"]


def test_a_signal_ends_it_between_jobs(tmp_path):

    stop = StopRequest()
    board = Board(first=[], second=[])
    board.jobs[0] = Job("first", lambda: True, lambda: "first" in board.did, lambda: stopped(board, stop))
    with pytest.raises(StoppedBySignal, match="the same command goes on"):
        work(board, tmp_path, stop)
    assert board.did == ["first"]


def stopped(board, stop):
    board.did.append("first")
    stop.number = 15
