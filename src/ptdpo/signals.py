"""SIGTERM, SIGINT and SIGHUP: work is finished to a point from which it can go on, then the command ends.

The exit code is ``REQUEUE``, which says "run the same command again" to a scheduler.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# EX_TEMPFAIL of sysexits.h.
REQUEUE = 75
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


_heeded: "list[StopRequest]" = []


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as an exception does, so that what is open is closed; not Ctrl-C.

    Raises:
        StoppedBySignal: at whatever is done when the signal comes.
    """

    def end(number: int, _: FrameType | None) -> None:
        raise StoppedBySignal(f"stopped by {signal.Signals(number).name}: what is finished is kept; run it again")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in SIGNALS if number != signal.SIGINT}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StoppedBySignal(BaseException):
    """A command ended because a signal asked for it; what was done is kept. Not an error that anything handles."""


class StopRequest:
    """Whether a signal has asked for an end, as ``heeding_signals`` notes it."""

    def __init__(self) -> None:
        self.number = 0

    @property
    def name(self) -> str:
        """Return the name of the signal."""
        return signal.Signals(self.number).name

    def check(self, said: str) -> None:
        """End here if it was asked for.

        Args:
            said: what was kept and how to go on; stands after the name of the signal.

        Raises:
            StoppedBySignal: if a signal came.
        """
        if self.number:
            raise StoppedBySignal(f"stopped by {self.name}: {said}")


@contextmanager
def heeding_signals(tell: Callable[[str], None]) -> Iterator[StopRequest]:
    """Note signals while the block lasts instead of ending at once; the second Ctrl-C ends at once.

    Outside the main thread signals stay as they are. A block inside another notes them for both.

    Args:
        tell: gets one line when the first signal comes.
    """
    if _heeded or threading.current_thread() is not threading.main_thread():
        yield _heeded[-1] if _heeded else StopRequest()
        return
    request = StopRequest()

    def note(number: int, _: FrameType | None) -> None:
        if request.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not request.number:
            request.number = number
            tell(f"{request.name}: what has begun is finished and kept, then this ends; Ctrl-C again ends at once")

    before = {number: signal.signal(number, note) for number in SIGNALS}
    _heeded.append(request)
    try:
        yield request
    finally:
        _heeded.pop()
        for number, handler in before.items():
            signal.signal(number, handler)
