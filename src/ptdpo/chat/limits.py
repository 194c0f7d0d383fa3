"""Staying within a server's requests and tokens per minute, and stopping when asked to."""

import asyncio
import time
from dataclasses import dataclass


class Stopped(Exception):  # noqa: N818  (not an error: the user asked for it)
    """No further request is sent: the run is ending."""


class StopSignal:
    """Set once, by a signal or by a failure of the whole run; requests in flight still finish."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def is_set(self) -> bool:
        """Whether the run is ending."""
        return self._event.is_set()

    def set(self) -> None:
        """Ask the run to end."""
        self._event.set()

    def check(self) -> None:
        """Raise ``Stopped`` if the run is ending."""
        if self.is_set:
            raise Stopped

    async def sleep(self, seconds: float) -> None:
        """Sleep, unless the run ends first; then raise ``Stopped``."""
        self.check()
        if seconds <= 0:
            return
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return
        raise Stopped


@dataclass(slots=True)
class _Lane:
    """One quantity with a rate: whoever takes some moves the time at which the next may start."""

    per_minute: float | None
    free_at: float = 0.0

    def take(self, amount: float, now: float) -> float:
        """Take an amount and return when it may be used."""
        if self.per_minute is None:
            return now
        start = max(now, self.free_at)
        self.free_at = start + amount * 60 / self.per_minute
        return start

    def correct(self, amount: float) -> None:
        """Take more, or give back, after the fact."""
        if self.per_minute is not None:
            self.free_at += amount * 60 / self.per_minute


class RateLimiter:
    """Spaces requests evenly, without a burst at the start, so that no window of a minute is overrun.

    What a request will cost in tokens is estimated by the mean of those before it and corrected by what it cost.
    """

    def __init__(self, requests_per_minute: float | None = None, tokens_per_minute: float | None = None) -> None:
        self._requests, self._tokens = _Lane(requests_per_minute), _Lane(tokens_per_minute)
        self._paused_until = 0.0
        self._seen, self._spent = 0, 0

    def estimate(self, first_guess: int) -> int:
        """Return the mean cost so far, or the guess if there is none yet."""
        return round(self._spent / self._seen) if self._seen else first_guess

    async def wait(self, tokens: int, stop: StopSignal) -> None:
        """Wait for the turn of a request that costs about so many tokens."""
        now = time.monotonic()
        start = max(self._requests.take(1, now), self._tokens.take(tokens, now))
        await stop.sleep(start - now)
        while (pause := self._paused_until - time.monotonic()) > 0:
            await stop.sleep(pause)

    def settle(self, estimated: int, actual: int) -> None:
        """Replace the estimate of a request by what it cost."""
        self._seen, self._spent = self._seen + 1, self._spent + actual
        self._tokens.correct(actual - estimated)

    def pause(self, seconds: float) -> None:
        """Send nothing for so long: the server asked for it."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)
