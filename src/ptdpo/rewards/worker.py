"""The grading worker: a fresh interpreter whose child may hang, run out of memory or die on an answer.

It reads one line of JSON per batch, ``[seconds, [[judge, given, expected], ...]]``, and writes one line per answer, in
order: ``[verdict, note]``. The child does the judging; one that is late is killed, and the next is forked from what
is loaded already, which takes milliseconds. ``ptdpo.rewards.pool`` starts workers.
"""

import contextlib
import json
import logging
import math
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from typing import IO

READY = "ready"
LATE = "late"
# Enough for any answer that ends in time; a power tower would take the machine's memory first.
_MEMORY = 4 << 30
# Seconds that a child may wait for a processor, on top of its own; less than the caller's patience with a worker.
_WAITING = 30.0


def main() -> None:
    """Serve until the caller closes standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    # What libraries print must not mix with the replies.
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    from ptdpo.rewards.judges import JUDGES, WARM_UP

    _send(replies, READY)
    child: _Child | None = None
    warm: set[str] = set()
    with contextlib.suppress(BrokenPipeError):
        for line in sys.stdin:
            seconds, chunk = json.loads(line)
            for question in chunk:
                judge = question[0]
                if judge in WARM_UP and judge not in warm:
                    # The first use of a library loads more of it: that is no answer's time.
                    if child:
                        child.end()
                    child = None
                    JUDGES[judge](*WARM_UP[judge])
                    warm.add(judge)
                child = child or _Child(replies)
                reply = child.ask(question, seconds)
                if reply is None:
                    child, reply = None, [False, f"{LATE}: no verdict within {seconds:g} s"]
                elif isinstance(reply, int):
                    child, reply = None, [False, f"the worker died of this answer (exit code {reply})"]
                _send(replies, reply)
    if child:
        child.end()


class _Child:
    """A process that judges, forked from this one."""

    def __init__(self, replies: IO[str]) -> None:
        self._questions_out, questions = os.pipe()
        answers, self._answers_in = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            for inherited in (questions, answers, replies.fileno(), 0):
                os.close(inherited)
            _judge(os.fdopen(self._questions_out, "r"), os.fdopen(self._answers_in, "w"))
            os._exit(0)
        os.close(self._questions_out)
        os.close(self._answers_in)
        self._questions, self._answers = os.fdopen(questions, "w"), os.fdopen(answers, "rb", 0)

    def ask(self, question: Sequence[str], seconds: float) -> list | int | None:
        """Return [verdict, note]; ``None`` if it is late, the exit code if it died: then the child is gone.

        Args:
            question: for ``JUDGES``.
            seconds: of its processor time, and no more than ``_WAITING`` beyond that of any other: a machine that is
                busy elsewhere takes nobody's verdict.
        """
        with contextlib.suppress(BrokenPipeError):
            self._questions.write(json.dumps([seconds, question]) + "\n")
            self._questions.flush()
        used, end = _processor_seconds(self.pid) + seconds, time.monotonic() + seconds + _WAITING
        heard, line = True, b""
        while not line.endswith(b"\n"):
            left = min(used - _processor_seconds(self.pid), end - time.monotonic())
            if not heard and left <= 0:
                break
            heard = bool(select.select([self._answers], [], [], max(0.0, left))[0])
            piece = self._answers.read(1 << 16) if heard else b""
            if heard and not piece:
                return self.end()
            line += piece
        if not heard:
            self.end()
            return None
        return json.loads(line)

    def end(self) -> int:
        """Kill it and return its exit code."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._answers.close()
        with contextlib.suppress(BrokenPipeError):
            self._questions.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _processor_seconds(pid: int) -> float:
    """Return the processor time of a process so far; where the system does not tell, the time."""
    if not sys.platform.startswith("linux"):
        return time.monotonic()
    # What clock_getcpuclockid(3) returns, which Python has for threads only.
    return time.clock_gettime((~pid << 3) | 2)


def _judge(questions: IO[str], answers: IO[str]) -> None:
    from ptdpo.rewards.judges import JUDGES

    _limit_memory()
    for line in questions:
        seconds, (judge, given, expected) = json.loads(line)
        _limit_time(seconds)
        try:
            reply = [JUDGES[judge](given, expected), ""]
        except Exception as error:
            reply = [False, f"{judge} raised {type(error).__name__}"]
        _send(answers, reply)


def _send(replies: IO[str], reply: object) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def _limit_time(seconds: float) -> None:
    # The worker kills a child that is late. Should the worker be gone, the system does, a little later.
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + seconds) + 1, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
