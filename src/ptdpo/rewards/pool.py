"""Worker processes that grade what may hang: an answer that is late is given up.

Workers are fresh interpreters, not forks of the caller: nothing of its threads, GPU or main module reaches them, and
they load neither torch nor the caller's script. They start when first needed and end with the caller.

Every answer gets a short turn first; those that are late wait until the others are graded and get longer turns, until
the time of the batch is used up.
"""

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from ptdpo.rewards.worker import LATE, READY

SECONDS = 3.0
BATCH_SECONDS = 20.0
# The first turn, and the shortest that is left when a batch is late.
_FIRST_TURN, _SHORTEST_TURN = 0.5, 0.1
# A worker gives up what is late itself, and may have to load a library first; one that is silent for longer is gone.
_GRACE = 60.0
_START_SECONDS = 120.0
_CHUNK = 32
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from ptdpo.rewards.worker import main; main()"


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a worker; ``judge`` is a name in ``ptdpo.rewards.judges``."""

    judge: str
    given: str
    expected: str


@dataclass(frozen=True, slots=True)
class Reply:
    """A worker's answer; ``note`` says why there is no verdict."""

    verdict: bool
    note: str = ""


class WorkerPool:
    """Up to ``size`` workers. Safe to call from several threads: calls take turns."""

    def __init__(self, size: int | None = None) -> None:
        self.size = size or min(4, _usable_cpus())
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the workers that live now."""
        return tuple(worker.process.pid for worker in self._workers)

    def ask(
        self, requests: Sequence[Request], seconds: float = SECONDS, batch_seconds: float = BATCH_SECONDS
    ) -> list[Reply]:
        """Return a reply to every request, in order.

        One that takes longer than ``seconds`` gets a note instead, and so does one that is still late when the whole
        has taken ``batch_seconds``; every request has had a turn by then.

        Raises:
            RuntimeError: if a worker cannot be started.
        """
        with self._lock:
            try:
                return _Batch(self._workers, self.size, requests, seconds, batch_seconds).run()
            except BaseException:
                # An interrupted worker still holds answers that nobody will read.
                self._kill()
                raise

    def close(self) -> None:
        """End the workers; the next call starts new ones."""
        with self._lock:
            self._kill()

    def abandon(self) -> None:
        """Forget workers that belong to another process."""
        for worker in self._workers:
            worker.process.returncode = 0
            worker.outlet.close()
            worker.inlet.close()
        self._workers.clear()

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _kill(self) -> None:
        while self._workers:
            self._workers.pop().kill()


class _Worker:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ready = False
        self.todo: deque[int] = deque()
        self.since = time.monotonic()
        self._unread = b""
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _BOOT, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C is the caller's to handle.
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.inlet, self.outlet = self.process.stdin, self.process.stdout

    @property
    def deadline(self) -> float:
        return self.since + (self.seconds + _GRACE if self.ready else _START_SECONDS)

    def send(self, numbers: Sequence[int], requests: Sequence[Request]) -> None:
        """Hand over a chunk. The worker is idle, so it reads all of it before it writes: this cannot block for ever."""
        chunk = [(r.judge, r.given, r.expected) for r in (requests[number] for number in numbers)]
        self.todo.extend(numbers)
        self.since = time.monotonic()
        self.inlet.write(json.dumps([self.seconds, chunk]).encode("ascii") + b"\n")
        self.inlet.flush()

    def receive(self) -> list[bytes] | None:
        """Return the complete lines that have arrived, or ``None`` if the worker is gone."""
        data = os.read(self.outlet.fileno(), 1 << 16)
        *lines, self._unread = (self._unread + data).split(b"\n")
        if lines:
            self.since = time.monotonic()
        return lines if data else None

    def kill(self) -> None:
        # It leads a session of its own: its child goes with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.outlet.close()
        # What the buffer still holds is for a worker that is gone.
        with contextlib.suppress(BrokenPipeError):
            self.inlet.close()


@dataclass
class _Batch:
    """One call of ``WorkerPool.ask``: requests wait in a queue, idle workers take chunks of it."""

    workers: list[_Worker]
    size: int
    requests: Sequence[Request]
    seconds: float
    batch_seconds: float
    replies: dict[int, Reply] = field(default_factory=dict)
    queue: deque[int] = field(default_factory=deque)
    late: deque[int] = field(default_factory=deque)
    turn: float = 0.0
    started: float | None = None

    def run(self) -> list[Reply]:
        self.queue.extend(range(len(self.requests)))
        self.turn = min(_FIRST_TURN, self.seconds)
        while len(self.replies) < len(self.requests):
            if not self.queue and not any(worker.todo for worker in self.workers):
                self._next_turn()
            self._hire()
            self._hand_out()
            self._wait()
        return [self.replies[number] for number in range(len(self.requests))]

    def _left(self) -> float:
        """Return how much of the batch's time is left; it starts with the first answer that a worker takes."""
        return self.batch_seconds - (time.monotonic() - self.started if self.started is not None else 0.0)

    def _next_turn(self) -> None:
        """Give those that were late a turn twice as long."""
        self.turn = min(2 * self.turn, self.seconds)
        self.queue, self.late = self.late, deque()

    def _turn_now(self) -> float:
        first = self.turn <= min(_FIRST_TURN, self.seconds)
        return min(self.turn, max(_SHORTEST_TURN, self._left())) if first else self.turn

    def _drop_late(self) -> None:
        """Give up what had its turn when the batch's time is used up."""
        if self.turn > min(_FIRST_TURN, self.seconds) and self._left() <= 0:
            for number in self.queue:
                self.replies[number] = Reply(
                    False, f"timeout: late when the batch's {self.batch_seconds:g} s were used up"
                )
            self.queue.clear()

    def _hire(self) -> None:
        chunks = -(-len(self.queue) // _CHUNK)
        idle = sum(not worker.todo for worker in self.workers)
        for _ in range(min(self.size - len(self.workers), chunks - idle)):
            self.workers.append(_Worker(self.seconds))

    def _hand_out(self) -> None:
        self._drop_late()
        for worker in list(self.workers):
            if worker.ready and not worker.todo and self.queue:
                self.started = self.started or time.monotonic()
                worker.seconds = self._turn_now()
                size = min(_CHUNK, -(-len(self.queue) // len(self.workers)), max(1, int(2 / self.turn)))
                try:
                    worker.send([self.queue.popleft() for _ in range(size)], self.requests)
                except BrokenPipeError:
                    self._dismiss(worker, "the worker was gone", guilty=False)

    def _wait(self) -> None:
        busy = [worker for worker in self.workers if worker.todo or not worker.ready]
        if not busy:
            return
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                selector.register(worker.outlet, selectors.EVENT_READ, worker)
            patience = min((worker.deadline for worker in busy), default=0.0) - time.monotonic()
            heard = [key.data for key, _ in selector.select(max(0.0, patience))]
        for worker in heard:
            self._hear(worker)
        for worker in busy:
            if worker not in heard and time.monotonic() > worker.deadline:
                if not worker.ready:
                    raise RuntimeError(f"a grading worker was not ready after {_START_SECONDS:g} s")
                self._dismiss(worker, f"timeout: no word from the worker for {worker.seconds + _GRACE:g} s")

    def _hear(self, worker: _Worker) -> None:
        lines = worker.receive()
        if lines is None:
            code = worker.process.wait()
            if not worker.ready:
                raise RuntimeError(f"a grading worker could not start (exit code {code}); its message is on stderr")
            self._dismiss(worker, f"the worker died of this answer (exit code {code})")
            return
        for line in lines:
            reply = json.loads(line)
            if reply == READY:
                worker.ready = True
            else:
                self._take(worker.todo.popleft(), Reply(*reply), worker.seconds)

    def _take(self, number: int, reply: Reply, turn: float) -> None:
        if not reply.note.startswith(LATE):
            self.replies[number] = reply
        elif turn >= self.seconds:
            self.replies[number] = Reply(False, f"timeout: no verdict within {self.seconds:g} s")
        else:
            self.late.append(number)

    def _dismiss(self, worker: _Worker, note: str, *, guilty: bool = True) -> None:
        """Kill a worker. The answer it was at gets the note; those behind it go back to the head of the queue."""
        worker.kill()
        self.workers.remove(worker)
        if guilty and worker.todo:
            self.replies[worker.todo.popleft()] = Reply(False, note)
        self.queue.extendleft(reversed(worker.todo))


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_shared: WorkerPool | None = None


def shared_pool() -> WorkerPool:
    """Return this process's pool; a forked child gets its own."""
    global _shared
    if _shared is None:
        _shared = WorkerPool()
        atexit.register(_shared.close)
    return _shared


def _leave_to_parent() -> None:
    """After a fork: the parent's workers answer the parent. Let go of them without ending them."""
    global _shared
    if _shared is not None:
        atexit.unregister(_shared.close)
        _shared.abandon()
        _shared = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
