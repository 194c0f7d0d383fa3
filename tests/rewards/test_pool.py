import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from ptdpo.records import Answered
from ptdpo.rewards import grade, grade_many
from ptdpo.rewards.pool import Reply, Request, WorkerPool

HANGS = "9**9**9**9"
ROOT = Request("mathruler", "2\\sqrt{3}", "\\sqrt{12}")
OTHER = Request("mathruler", "2\\sqrt{5}", "\\sqrt{12}")


@pytest.fixture
def pool():
    with WorkerPool(1) as pool:
        yield pool


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def run_script(code: str, tmp_path) -> str:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, "-W", "error", path], capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_replies_come_in_order(pool):
    asked = [ROOT if number % 3 else OTHER for number in range(40)]
    assert [reply.verdict for reply in pool.ask(asked, 60)] == [request is ROOT for request in asked]


def test_several_workers_keep_the_order():
    with WorkerPool(2) as pool:
        asked = [ROOT if number % 5 else OTHER for number in range(80)]
        assert [reply.verdict for reply in pool.ask(asked, 60)] == [request is ROOT for request in asked]
        assert len(pool.pids) == 2


def test_a_hanging_answer_costs_a_time_out_and_the_others_are_graded(pool):
    assert pool.ask([ROOT], 60) == [Reply(True)]
    replies = pool.ask([OTHER, Request("mathruler", HANGS, "0.5"), ROOT, ROOT, OTHER], 1.5)
    assert [reply.verdict for reply in replies] == [False, False, True, True, False]
    assert replies[1].note == "timeout: no verdict within 1.5 s"
    assert [reply.note for reply in replies[:1] + replies[2:]] == [""] * 4


def test_a_batch_has_a_budget_and_innocents_behind_what_hangs_are_graded(pool):
    pool.ask([ROOT], 60)
    hanging = [Request("mathruler", f"{HANGS}+{n}", "0.5") for n in range(8)]
    good = [Request("mathruler", f"{n}\\sqrt{{3}}", f"\\sqrt{{{3 * n * n}}}") for n in range(2, 6)]
    start = time.monotonic()
    replies = pool.ask([*hanging, *good], seconds=600, batch_seconds=5)
    assert time.monotonic() - start < 300, "a hang, not a speed: 8 answers of 600 s each"
    assert {reply.note for reply in replies[:8]} <= {
        "timeout: late when the batch's 5 s were used up",
        "timeout: no verdict within 600 s",
    }
    assert [reply.verdict for reply in replies] == [False] * 8 + [True] * 4


def test_a_worker_that_is_killed_costs_one_answer_at_most(pool):
    pool.ask([ROOT], 60)
    (pid,) = pool.pids
    os.kill(pid, 9)
    # Between calls nothing was under way: it costs nothing, or the first answer if the news comes late.
    replies = pool.ask([OTHER, ROOT, ROOT], 60)
    assert [reply.verdict for reply in replies] == [False, True, True]
    assert gone(pid)


def test_a_dying_worker_takes_one_answer_with_it(pool):
    killer = threading.Timer(1.0, lambda: os.kill(pool.pids[0], 9))
    pool.ask([ROOT], 60)
    killer.start()
    replies = pool.ask([Request("mathruler", HANGS, "0.5"), ROOT], 60)
    killer.join()
    assert replies[0].note == "the worker died of this answer (exit code -9)"
    assert replies[1] == Reply(True)


def test_what_a_judge_raises_is_noted(pool):
    assert pool.ask([Request("nobody", "1", "1"), ROOT], 60) == [Reply(False, "nobody raised KeyError"), Reply(True)]


def test_workers_end_with_the_pool(pool):
    pool.ask([ROOT], 60)
    (pid,) = pool.pids
    pool.close()
    assert pool.pids == ()
    assert gone(pid)
    assert pool.ask([ROOT], 60) == [Reply(True)]


def test_a_worker_that_cannot_start_is_an_error(pool, monkeypatch, capfd):
    monkeypatch.setattr("ptdpo.rewards.pool._BOOT", "raise SystemExit(7)")
    with pytest.raises(RuntimeError, match="exit code 7"):
        pool.ask([ROOT], 60)
    assert pool.pids == ()


def test_threads_take_turns(pool):
    found = {}

    def ask(name, request):
        found[name] = [reply.verdict for reply in pool.ask([request] * 20, 60)]

    threads = [threading.Thread(target=ask, args=(n, r)) for n, r in enumerate((ROOT, OTHER, ROOT))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: [True] * 20, 1: [False] * 20, 2: [True] * 20}


# Each with an expected answer that makes mathruler reach for sympy.
HOSTILE = {
    "factorial": ("9999999!", "x"),
    "tower": (HANGS, "0.5"),
    "tower-latex": ("9^{9^{9^{9}}}", "0.5"),
    "memory": ("10**10**10", "x"),
    "nested-factorial": ("((99999!)!)!", "x"),
    "megabyte": ("9" * 1_000_000, "0.5"),
    "megabyte-of-braces": ("{" * 1_000_000, "x"),
    "closing-braces": ("}" * 1000, "x"),
    "nested-fractions": ("\\frac{" * 50_000, "x"),
    "roots": ("\\sqrt" * 5000, "0.5"),
    "brackets": ("(" * 50_000 + "1" + ")" * 50_000, "x"),
    "thousands": ("1,000" * 20_000, "0.5"),
    "null-bytes": ("\x00" * 1000, "x"),
    "full-width": ("１２", "12.5"),
    "minus-signs": ("−−–—", "x"),
    "surrogate": ("\ud800", "x"),
    "code": ("__import__('os').abort()", "x"),
}


def grade_hostile(names, mode, pool):
    """Return the verdicts of hostile answers, after checking that the good ones between them stay right."""
    items = [Answered(f"x</think>\\boxed{{{HOSTILE[name][0]}}}", HOSTILE[name][1]) for name in names]
    # Equal questions are asked once: each good one is another.
    good = [Answered(f"x</think>\\boxed{{{n}\\sqrt{{3}}}}", f"\\sqrt{{{3 * n * n}}}") for n in range(2, len(names) + 2)]
    pairs = [item for pair in zip(items, good, strict=True) for item in pair]
    verdicts = grade_many(pairs, mode=mode, seconds=1.0, batch_seconds=600, pool=pool)
    assert [verdict.accuracy for verdict in verdicts[1::2]] == [1.0] * len(names)
    return verdicts[::2]


@pytest.mark.slow
def test_hostile_answers_cost_a_time_out_at_worst(pool):
    verdicts = grade_hostile(list(HOSTILE), "mathruler", pool)
    assert [verdict.accuracy for verdict in verdicts] == [0.0] * len(HOSTILE)
    assert {verdict.note for verdict in verdicts} == {"", "timeout: no verdict within 1 s"}


def test_hostile_answers_need_no_worker_of_ours(pool):
    verdicts = grade_hostile(list(HOSTILE), "sound", pool)
    assert [verdict.accuracy for verdict in verdicts] == [0.0] * len(HOSTILE)
    assert {verdict.note for verdict in verdicts} == {""}
    assert pool.pids == ()


def test_parity_times_out_where_mathruler_hangs(pool):
    hangs = [Answered(f"\\boxed{{{HOSTILE[name][0]}}}", HOSTILE[name][1]) for name in ("factorial", "tower")]
    verdicts = grade_many(hangs, mode="mathruler", seconds=1.0, pool=pool)
    assert [v.note for v in verdicts] == ["timeout: no verdict within 1 s"] * 2


def test_sums_and_integrals_are_left_to_a_worker(pool):
    pairs = [("\\sum_{k=1}^{5} k", "15", 1.0), ("\\sum_{k=1}^{6} k", "\\sum_{k=1}^{5} k", 0.0)]
    items = [Answered(f"\\boxed{{{given}}}", expected) for given, expected, _ in pairs]
    assert [v.accuracy for v in grade_many(items, seconds=60, pool=pool)] == [label for _, _, label in pairs]
    assert len(pool.pids) == 1


def test_a_script_ends_cleanly_and_is_not_run_again(tmp_path):
    out = run_script(
        """
        import torch
        torch.randn(200, 200) @ torch.randn(200, 200)
        from ptdpo.rewards import grade
        from ptdpo.rewards.pool import shared_pool
        print("graded", grade("\\\\boxed{2\\\\sqrt{3}}", "\\\\sqrt{12}", mode="mathruler").accuracy)
        print("pid", *shared_pool().pids)
        """,
        tmp_path,
    )
    assert out.count("graded 1.0") == 1
    assert gone(int(out.split()[-1]))


def test_an_interrupt_leaves_a_pool_that_works(tmp_path):
    out = run_script(
        """
        import os, signal, threading
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts in the background
        from ptdpo.rewards import grade
        grade("\\\\boxed{2\\\\sqrt{3}}", "\\\\sqrt{12}", mode="mathruler")
        threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            grade("\\\\boxed{9**9**9**9}", "0.5", seconds=600, mode="mathruler")
        except KeyboardInterrupt:
            print("interrupted")
        print(grade("\\\\boxed{2\\\\sqrt{3}}", "\\\\sqrt{12}", mode="mathruler").accuracy)
        """,
        tmp_path,
    )
    assert out.split() == ["interrupted", "1.0"]


def test_a_forked_child_has_workers_of_its_own(tmp_path):
    out = run_script(
        """
        import os, sys
        from ptdpo.rewards import grade
        from ptdpo.rewards.pool import shared_pool
        ask = lambda: grade("\\\\boxed{2\\\\sqrt{3}}", "\\\\sqrt{12}", mode="mathruler").accuracy
        ask()
        mine = shared_pool().pids
        child = os.fork()
        if child == 0:
            print("child", ask(), shared_pool().pids != mine, flush=True)
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        print("parent", ask(), shared_pool().pids == mine, status)
        """,
        tmp_path,
    )
    assert out.splitlines() == ["child 1.0 True", "parent 1.0 True 0"]


def test_workers_load_no_torch(pool):
    code = "import sys, ptdpo.rewards.worker, ptdpo.rewards.judges; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_verdicts_say_how_they_came_about():
    verdict = grade("x</think>\\boxed{2\\sqrt{3}}", "\\sqrt{12}")
    assert (verdict.mode, verdict.fallback, verdict.second, verdict.note) == ("sound", "boxed", None, "")
