"""The commands as a user types them, in a process of their own or in this one, against a server on loopback."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ptdpo import cli
from ptdpo.data.files import read_hints, read_solutions, write_hints, write_problems
from ptdpo.data.scan import read_problems
from ptdpo.hints import quality
from ptdpo.records import Hint, Problem
from ptdpo.signals import REQUEUE
from tests.chat.loopback import Hold, LoopbackServer, Refuse, Say, user_text

ROOT = Path(__file__).parents[2]


@pytest.fixture
def any_hint_will_do(monkeypatch):
    """These tests are about the commands, not about the rules."""
    monkeypatch.setattr(quality, "check_hint", lambda problem, hint: quality.HintVerdict(True, []))


@pytest.fixture
def ptdpo(monkeypatch, capsys, any_hint_will_do):
    """Runs main() and returns exit code, stdout, stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ptdpo", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, " ".join(captured.out.split()), " ".join(captured.err.split())

    return run


@pytest.fixture
def folder(tmp_path):
    write_problems(tmp_path / "p.jsonl", [Problem(str(n), (), f"question {n}", str(n)) for n in range(4)])
    return tmp_path


def test_hints_build(ptdpo, folder):
    answer = Say(json.dumps({"look": "here", "reason": "so"}), prompt_tokens=1_000_000, completion_tokens=500_000)
    command = ["hints", "build", "--problems", folder / "p.jsonl", "--out", folder / "h.jsonl", "--model", "m"]
    with LoopbackServer(lambda body, _: Refuse(400, "no") if "question 3" in user_text(body) else answer) as server:
        command += [
            "--base-url",
            server.url,
            "--price-in",
            "2",
            "--price-out",
            "4",
            "--tries",
            "2",
            "--extra",
            '{"top_k": 5}',
        ]
        code, out, _ = ptdpo(*command)
        assert code == 1
        assert "3 done, 0 done before, 1 failed" in out
        assert "cost about 12.00" in out
        assert "status 400: no" in out
        assert server.received[0]["top_k"] == 5
        server.behave = lambda *_: answer
        code, out, _ = ptdpo(*command)
    assert (code, len(read_hints(folder / "h.jsonl"))) == (0, 4)
    assert "1 done, 3 done before, 0 failed" in out


def test_a_fallback_on_another_server(ptdpo, folder):
    good = Say(json.dumps({"look": "here", "reason": "so"}))
    with LoopbackServer(lambda *_: Say("", "length")) as weak, LoopbackServer(lambda *_: good) as strong:
        code, *_ = ptdpo(
            "hints", "build", "--problems", folder / "p.jsonl", "--out", folder / "h.jsonl", "--base-url", weak.url,
            "--model", "small", "--fallback-base-url", strong.url, "--fallback-model", "large",
        )  # fmt: skip
    assert code == 0
    assert (len(weak.received), {body["model"] for body in strong.received}) == (4, {"large"})


def test_recoverability_then_review(ptdpo, folder):
    write_hints(folder / "h.jsonl", {str(n): Hint("here", f"say {n}" if n == 2 else "so") for n in range(4)}, "m")

    def behave(body, _):
        if "Question:" in user_text(body):
            return Say(json.dumps({"look": "new", "reason": "better"}))
        return Say("\\boxed{2}" if "say 2" in user_text(body) else "\\boxed{?}")

    with LoopbackServer(behave) as server:
        where = ["--problems", folder / "p.jsonl", "--base-url", server.url, "--model", "m"]
        code, out, _ = ptdpo(
            "hints", "recoverability", folder / "h.jsonl", *where, "--out", folder / "r.jsonl",
            "--review-out", folder / "rejected.json",
        )  # fmt: skip
        assert (code, "1 of 4 hints give their answer away" in out) == (0, True)
        code, *_ = ptdpo(
            "hints", "build", *where, "--out", folder / "h.jsonl", "--apply-review", folder / "rejected.json"
        )
    hints = read_hints(folder / "h.jsonl")
    assert code == 0
    assert {key for key, hint in hints.items() if hint.look == "new"} == {"2"}


def test_usefulness(ptdpo, folder):
    write_hints(folder / "h.jsonl", {str(n): Hint("here", "so") for n in range(4)}, "m")

    def behave(body, _):
        return Say("\\boxed{1}" if "Hint." in user_text(body) else "\\boxed{0}")

    with LoopbackServer(behave) as server:
        code, out, _ = ptdpo(
            "hints", "usefulness", folder / "h.jsonl", "--problems", folder / "p.jsonl", "--out", folder / "u.jsonl",
            "--base-url", server.url, "--model", "m", "--draws", "2", "--review-out", folder / "useless.json",
        )  # fmt: skip
    assert code == 0
    assert "gain in pass@1 +0.000" in out
    assert "1 hints: always solved without the hint" in out
    assert json.loads((folder / "useless.json").read_text()) == {"accepted": [], "rejected": [], "reasons": {}}


def test_solutions_build(ptdpo, folder):
    def behave(body, _):
        number = user_text(body).split("question ")[1][0]
        return Say(f"<think>I look.</think>\\boxed{{{number}}}" if number != "3" else "?")

    with LoopbackServer(behave) as server:
        code, out, _ = ptdpo(
            "solutions", "build", "--problems", folder / "p.jsonl", "--out", folder / "s.jsonl",
            "--base-url", server.url, "--model", "m", "--samples", "2",
        )  # fmt: skip
    assert code == 1
    assert "solved by sampling 3, by repair 0, in reverse 0" in out
    assert "3: unsolved: 8 responses: 8 wrong" in out
    assert set(read_solutions(folder / "s.jsonl")) == {"0", "1", "2"}


@pytest.mark.parametrize("command", ["hints", "solutions"])
def test_a_file_without_a_problem_is_refused(ptdpo, folder, command):
    (folder / "empty.jsonl").write_text("\n")
    code, _, err = ptdpo(
        command, "build", "--problems", folder / "empty.jsonl", "--out", folder / "o.jsonl",
        "--base-url", "http://127.0.0.1:9/v1", "--model", "m",
    )  # fmt: skip
    assert code == 2
    assert "empty.jsonl: holds no problem" in err
    assert not list(folder.glob("o.*")), "nothing is written"


def test_attach_hints(ptdpo, folder):
    write_hints(folder / "h.jsonl", {"1": Hint("here", "so"), "gone": Hint("x", "y")}, "m")
    code, out, _ = ptdpo("data", "attach-hints", folder / "p.jsonl", folder / "h.jsonl", "--out", folder / "t.jsonl")
    assert code == 0
    assert "4 problems, 1 with a hint" in out
    assert "1 hints belong to no problem: gone" in out
    assert [bool(p.prompt_with_hint) for p in read_problems(folder / "t.jsonl")] == [False, True, False, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--base-url", "localhost:1"], "must begin with http"),
        (["--concurrency", "0"], "--concurrency=0: must be at least 1"),
        (["--attempts", "0"], "--attempts=0: must be at least 1"),
        (["--rpm", "0"], "--rpm=0.0: must be above 0"),
        (["--extra", "{"], "not valid JSON"),
        (["--system-prompt", "absent.txt"], "absent.txt: no such system prompt"),
        (["--fallback-base-url", "http://x"], "without --fallback-model"),
        (["--problems", "absent.jsonl"], "absent.jsonl: no such file"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(ptdpo, folder, arguments, message):
    given = {
        "--problems": folder / "p.jsonl",
        "--out": folder / "h.jsonl",
        "--base-url": "http://127.0.0.1:9/v1",
        "--model": "m",
    }
    given |= dict([arguments])
    code, _, err = ptdpo("hints", "build", *(part for pair in given.items() for part in pair))
    assert code == 2
    assert message in err


def test_a_wrong_key_is_one_line_that_names_the_variable(ptdpo, folder, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret-1")
    with LoopbackServer(lambda *_: Refuse(401, "bad key sk-secret-1")) as server:
        code, out, err = ptdpo(
            "hints", "build", "--problems", folder / "p.jsonl", "--out", folder / "h.jsonl", "--base-url", server.url,
            "--model", "m", "--api-key-env", "MY_KEY",
        )  # fmt: skip
    assert code == 2
    assert "MY_KEY is not accepted" in err
    assert "sk-secret-1" not in out + err + "".join(p.read_text() for p in folder.iterdir())


def test_ctrl_c_asks_to_be_run_again(folder):
    write_hints(folder / "h.jsonl", {str(n): Hint("here", "so") for n in range(4)}, "m")
    with LoopbackServer(lambda *_: Hold(Say("\\boxed{1}"))) as server:
        command = [
            sys.executable, "-m", "ptdpo.cli", "hints", "recoverability", folder / "h.jsonl", "--problems",
            folder / "p.jsonl", "--out", folder / "r.jsonl", "--base-url", server.url, "--model", "m", "--guesses", "1",
            "--concurrency", "2",
        ]  # fmt: skip
        process = subprocess.Popen(
            list(map(str, command)), env=os.environ | {"PYTHONPATH": f"{ROOT}/src"}, stderr=subprocess.PIPE, text=True
        )
        while server.in_flight < 2:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert "stopping" in process.stderr.readline()
        server.release()
        _, said = process.communicate(timeout=30)
    assert process.returncode == REQUEUE
    assert "stopped by SIGINT: every answer so far is kept; the same command goes on" in said
    assert "Traceback" not in said
    assert (folder / "r.requests.jsonl").read_text().count("\n") == 2
