"""A judge's limit counts its own processor time: what else a machine does costs nobody's verdict."""

import contextlib
import os
import signal
import threading
import time

import pytest

from ptdpo.rewards import worker
from ptdpo.rewards.worker import _Child, _processor_seconds

QUESTION = ["mathruler", "\\sqrt{12}", "2\\sqrt{3}"]
linux = pytest.mark.skipif(
    not os.path.exists("/proc/self/stat"), reason="processor time of others is read on Linux only"
)


@pytest.fixture
def child():
    with open(os.devnull, "w") as replies:
        made = _Child(replies)
        # Loads the library.
        assert made.ask(QUESTION, 120) == [True, ""]
        yield made
        # One that was late has ended.
        with contextlib.suppress(ChildProcessError):
            made.end()


@linux
def test_a_judge_that_gets_no_processor_for_longer_than_its_limit_still_answers(child):
    os.kill(child.pid, signal.SIGSTOP)
    threading.Timer(1.0, os.kill, (child.pid, signal.SIGCONT)).start()
    assert child.ask(QUESTION, 0.5) == [True, ""]


@linux
def test_a_judge_that_never_gets_one_is_late_in_the_end(child, monkeypatch):
    monkeypatch.setattr(worker, "_WAITING", 0.2)
    os.kill(child.pid, signal.SIGSTOP)
    assert child.ask(QUESTION, 0.1) is None


@linux
def test_processor_seconds_are_those_of_one_process():
    before, end = _processor_seconds(os.getpid()), time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert _processor_seconds(os.getpid()) - before >= 0.05
    assert _processor_seconds(os.getpid()) == pytest.approx(time.process_time(), abs=0.05)
