"""Bounded concurrency over a stream of items, and Ctrl-C that loses nothing."""

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ptdpo.chat.limits import Stopped, StopSignal
from ptdpo.signals import SIGNALS, StopRequest

Item = TypeVar("Item")
Result = TypeVar("Result")


async def pooled(
    items: Iterable[Item], work: Callable[[Item], Awaitable[Result]], *, concurrency: int, stop: StopSignal
) -> AsyncGenerator[Result, None]:
    """Yield the results of ``work`` as they come; at most ``concurrency`` items are in work at a time.

    Items are taken from the iterable only when there is room, so a stream of any length stays small in memory.
    When the signal is set no item is taken any more. An error in one item sets the signal, lets the others
    finish, and is raised at the end.
    """
    source = iter(items)
    in_work: set[asyncio.Task[Result]] = set()
    failure: BaseException | None = None
    exhausted = False
    try:
        while True:
            while len(in_work) < concurrency and not exhausted and not stop.is_set:
                try:
                    in_work.add(asyncio.create_task(_run(work, next(source))))
                except StopIteration:
                    exhausted = True
            if not in_work:
                break
            done, in_work = await asyncio.wait(in_work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is None:
                    yield task.result()
                elif not isinstance(error, Stopped):
                    failure = failure or error
                    stop.set()
    finally:
        for task in in_work:
            task.cancel()
        await asyncio.gather(*in_work, return_exceptions=True)
    if failure is not None:
        raise failure


async def _run(work: Callable[[Item], Awaitable[Result]], item: Item) -> Result:
    return await work(item)


def run_interruptible(main: Callable[[StopSignal], Awaitable[Result]], tell: Callable[[str], None]) -> Result:
    """Run a coroutine that heeds a stop signal.

    The first SIGINT (Ctrl-C), SIGTERM or SIGHUP sets it and lets what is in flight finish; the second cancels at once.

    Args:
        main: takes the signal.
        tell: shows one line to the user.

    Raises:
        StoppedBySignal: at the end, if one came.
    """

    request = StopRequest()

    async def run() -> Result:
        stop = StopSignal()
        with _signals(stop, request, tell):
            return await main(stop)

    try:
        result = asyncio.run(run())
    except asyncio.CancelledError:
        if not request.number:
            raise
        result = None
    request.check("every answer so far is kept; the same command goes on")
    assert result is not None
    return result


@contextmanager
def _signals(stop: StopSignal, request: StopRequest, tell: Callable[[str], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def heed(number: int) -> None:
        if request.number:
            task.cancel()
        else:
            request.number = number
            stop.set()
            tell("stopping: what is in flight is finished and kept; Ctrl-C again stops at once")

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        loop.add_signal_handler(number, heed, number)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
