"""Bounded concurrency over a stream of items, and Ctrl-C that loses nothing."""

import asyncio
import signal
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ptdpo.chat.limits import Stopped, StopSignal

Item = TypeVar("Item")
Result = TypeVar("Result")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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

    The first Ctrl-C (or SIGTERM) sets the signal and lets what is in flight finish; the second cancels at once.

    Args:
        main: takes the signal.
        tell: shows one line to the user.

    Raises:
        KeyboardInterrupt: at the end, if the user interrupted.
    """

    async def run() -> tuple[Result, bool]:
        stop = StopSignal()
        with _signals(stop, tell):
            return await main(stop), stop.interrupted

    try:
        result, interrupted = asyncio.run(run())
    except asyncio.CancelledError:
        result, interrupted = None, True
    if interrupted:
        raise KeyboardInterrupt
    assert result is not None
    return result


@contextmanager
def _signals(stop: StopSignal, tell: Callable[[str], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def heed() -> None:
        if stop.interrupted:
            task.cancel()
        else:
            stop.set(interrupted=True)
            tell("stopping: what is in flight is finished and kept; Ctrl-C again stops at once")

    for number in _SIGNALS:
        loop.add_signal_handler(number, heed)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
