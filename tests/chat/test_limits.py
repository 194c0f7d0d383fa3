"""How many requests, how fast, and when none any more."""

import asyncio
import time
from dataclasses import replace
from email.utils import formatdate

import pytest

from ptdpo.chat.client import ChatClient, Endpoint, EndpointError
from ptdpo.chat.limits import RateLimiter, Stopped, StopSignal
from ptdpo.chat.pool import pooled
from ptdpo.chat.store import RequestStore
from tests.chat.asking import QUICK, ask, request
from tests.chat.loopback import Hold, LoopbackServer, Refuse, Say


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured_by_every_request(tmp_path, as_date):
    times = []

    def behave(body, number):
        times.append(time.monotonic())
        wait = formatdate(time.time() + 2, usegmt=True) if as_date else "0.4"
        return Refuse(429, headers={"Retry-After": wait}) if number == 0 else Say("fine")

    settings = replace(QUICK, concurrency=1)
    with LoopbackServer(behave) as server:
        replies = ask(server, tmp_path / "s.jsonl", request("a"), request("b"), settings=settings)
    assert [reply.text for reply in replies] == ["fine", "fine"]
    assert times[1] - times[0] >= 0.4


def test_concurrency_is_bounded_and_used(tmp_path):
    with LoopbackServer(lambda *_: Say("fine", delay=0.02)) as server:
        ask(server, tmp_path / "s.jsonl", *(request(str(n)) for n in range(40)), settings=replace(QUICK, concurrency=5))
    assert server.peak == 5


def test_nothing_new_is_sent_after_the_stop_and_what_is_in_flight_is_kept(tmp_path):
    store = tmp_path / "s.jsonl"

    async def run(server):
        stop, replies = StopSignal(), []
        with RequestStore(store) as kept:
            async with ChatClient(Endpoint(server.url, "m"), kept, settings=QUICK, stop=stop) as client:
                watch = asyncio.create_task(halt(server, stop))
                async for reply in pooled((request(str(n)) for n in range(100)), client.ask, concurrency=4, stop=stop):
                    replies.append(reply)
                await watch
                with pytest.raises(Stopped):
                    await client.ask(request("new"))
        return replies

    async def halt(server, stop):
        while server.in_flight < 4:
            await asyncio.sleep(0.01)
        stop.set()
        server.release()

    with LoopbackServer(lambda *_: Hold(Say("fine"))) as server:
        replies = asyncio.run(run(server))
    assert len(replies) == len(server.received) == len(store.read_text().splitlines()) == 4


def test_waiting_ends_with_the_stop():
    async def run():
        stop = StopSignal()
        limiter = RateLimiter(requests_per_minute=1)
        await limiter.wait(1, stop)
        asyncio.get_running_loop().call_later(0.02, stop.set)
        with pytest.raises(Stopped):
            await limiter.wait(1, stop)

    asyncio.run(run())


def test_requests_and_tokens_are_spaced(monkeypatch):
    """On a clock of our own: 120 requests a minute are half a second apart, 600 tokens a minute 0.1 s per token."""
    clock, slept = [100.0], []
    monkeypatch.setattr("ptdpo.chat.limits.time.monotonic", lambda: clock[0])

    class Stop(StopSignal):
        async def sleep(self, seconds):
            slept.append(round(seconds, 6))
            clock[0] += max(seconds, 0)

    async def run(limiter, costs):
        slept.clear()
        for estimated, actual in costs:
            await limiter.wait(estimated, Stop())
            limiter.settle(estimated, actual)
        return list(slept)

    assert asyncio.run(run(RateLimiter(120), [(0, 0)] * 3)) == [0, 0.5, 0.5]
    assert asyncio.run(run(RateLimiter(None, 600), [(5, 5), (5, 15), (5, 5)])) == [0, 0.5, 1.5]
    assert asyncio.run(run(RateLimiter(), [(9, 9)] * 2)) == [0, 0]


def test_the_mean_cost_is_the_estimate():
    limiter = RateLimiter()
    assert limiter.estimate(77) == 77
    limiter.settle(77, 10)
    limiter.settle(77, 20)
    assert limiter.estimate(77) == 15


def test_a_failure_in_the_pool_lets_the_others_finish():
    async def work(n):
        await asyncio.sleep(0.01 * n)
        if n == 1:
            raise EndpointError("gone")
        return n

    async def collect(done, taken):
        numbers = (taken.append(n) or n for n in range(10))
        async for result in pooled(numbers, work, concurrency=4, stop=StopSignal()):
            done.append(result)

    done, taken = [], []
    with pytest.raises(EndpointError, match="gone"):
        asyncio.run(collect(done, taken))
    assert {2, 3} <= set(done)
    assert set(done) == set(taken) - {1}
    assert len(taken) < 10
