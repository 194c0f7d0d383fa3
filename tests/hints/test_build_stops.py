"""Builds that are cut short or meet trouble: what was paid for is kept, and the next run goes on."""

import os
import signal
import time
from collections import Counter

import pytest

from ptdpo.chat.client import ClientSettings, EndpointError
from ptdpo.chat.jobs import WorkFiles
from ptdpo.data.files import read_hints
from ptdpo.signals import REQUEUE
from tests.chat.loopback import Cut, Hold, LoopbackServer, Raw, Refuse
from tests.hints import build_worker
from tests.hints.building import build, hint, lines, question, stored
from tests.processes import start


def test_thirty_percent_failing_requests_lose_nothing(problems, out):
    troubles = (Refuse(500), Cut(30), Refuse(429, headers={"Retry-After": "0"}))

    def behave(body, number):
        return troubles[number % 3] if number % 10 < 3 else hint(question(body))

    with LoopbackServer(behave) as server:
        report = build(server, problems, out)
    assert (report.done, report.failed) == (20, [])
    assert Counter(map(question, server.answered)) == {f"question {n}": 1 for n in range(20)}
    assert report.usage.retries == len(server.received) - 20 > 0


def test_a_torn_last_line_of_the_output_is_repaired(problems, out):
    with LoopbackServer(lambda body, _: hint(question(body))) as server:
        build(server, problems, out)
        out.write_bytes(out.read_bytes()[:-9])
        assert build(server, problems, out).done == 1
    assert len(server.received) == 20
    assert len(read_hints(out)) == 20


def test_a_hopeless_endpoint_ends_the_run_and_keeps_what_is_there(problems, out):
    with LoopbackServer(lambda _, n: hint() if n < 5 else Refuse(401, "no")) as server:
        with pytest.raises(EndpointError, match="status 401"):
            build(server, problems, out, client=ClientSettings(concurrency=1))
        assert len(server.received) == 6
        server.behave = lambda *_: hint()
        assert build(server, problems, out).done == 15
    assert len(server.received) == 21


def test_a_full_disk_ends_the_run_and_leaves_whole_lines(problems, out, monkeypatch):
    write, written = os.write, []

    def full(fd, data):
        written.append(write(fd, data[:20] if len(written) == 6 else data))
        if len(written) > 7:
            raise OSError(28, "No space left on device")
        return written[-1]

    with LoopbackServer(lambda *_: hint()) as server:
        with monkeypatch.context() as patch:
            patch.setattr("ptdpo.chat.store.os.write", full)
            with pytest.raises(ValueError, match="No space left"):
                build(server, problems, out)
        answered = len(lines(WorkFiles.beside(out).requests))
        report = build(server, problems, out)
    assert report.done + report.known == 20
    assert report.usage.requests == 20 - answered
    assert len(read_hints(out)) == 20


def worker(problems, out, server, said):
    return start(build_worker.run, str(problems), str(out), server.url, 4, said=said)


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("answers", [0, 7, 18])
def test_kill_minus_nine_then_resume(problems, out, answers, tmp_path):
    """The server answers so many requests and then none; the process is killed with the next ones in flight."""
    in_flight = min(4, 20 - answers)
    with LoopbackServer(lambda body, n: hint(question(body)) if n < answers else Hold(hint(question(body)))) as server:
        first = worker(problems, out, server, tmp_path / "first.txt")
        until(lambda: len(server.received) == answers + in_flight and stored(out) == answers)
        first.kill()
        first.join()
        answered = {question(body) for body in server.answered}
        assert len(answered) == answers
        server.behave = lambda body, _: hint(question(body))
        second = worker(problems, out, server, tmp_path / "second.txt")
        second.join()
    assert (tmp_path / "second.txt").read_text().split()[-1] == "0"
    assert second.exitcode == 0
    asked_again = {question(body) for body in server.received[answers + in_flight :]}
    assert asked_again == {f"question {n}" for n in range(20)} - answered
    assert len(server.received) == 20 + in_flight
    ids = [row["id"] for row in lines(out)]
    assert sorted(ids, key=int) == [str(n) for n in range(20)]
    assert {h.look for h in read_hints(out).values()} == {f"question {n}" for n in range(20)}


def test_ctrl_c_finishes_what_is_in_flight(problems, out, tmp_path):
    said = tmp_path / "said.txt"
    with LoopbackServer(lambda body, n: hint() if n < 6 else Hold(hint())) as server:
        process = worker(problems, out, server, said)
        until(lambda: len(server.received) == 10)
        os.kill(process.pid, signal.SIGINT)
        until(lambda: "stopping" in said.read_text())
        server.release()
        process.join(20)
    assert process.exitcode == REQUEUE, said.read_text()
    assert len(server.received) == 10
    assert len(read_hints(out)) == stored(out) == 10


def test_a_second_ctrl_c_stops_at_once(problems, out, tmp_path):
    said = tmp_path / "said.txt"
    with LoopbackServer(lambda body, n: hint() if n < 6 else Hold(hint())) as server:
        process = worker(problems, out, server, said)
        until(lambda: len(server.received) == 10)
        os.kill(process.pid, signal.SIGINT)
        until(lambda: "stopping" in said.read_text())
        os.kill(process.pid, signal.SIGINT)
        process.join(20)
    assert process.exitcode == REQUEUE, said.read_text()
    assert len(read_hints(out)) == stored(out) == 6
    assert "Traceback" not in said.read_text()


def test_answers_that_are_no_protocol_at_all(problems, out):
    with LoopbackServer(lambda *_: Raw("<html>")) as server, pytest.raises(EndpointError, match="in a row failed"):
        build(server, problems, out, client=ClientSettings(attempts=2, first_wait=0.001, longest_wait=0.01))
