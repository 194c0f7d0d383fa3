"""Costs, and what the bar says."""

import io

import pytest
from rich.console import Console

from ptdpo.chat.progress import Usage, UsageBar
from ptdpo.chat.requests import ChatReply


def test_costs_are_estimated_from_tokens_and_prices():
    usage = Usage(price_in=3.0, price_out=15.0)
    usage.add(ChatReply("x", "stop", 200_000, 100_000))
    usage.add(ChatReply("x", "stop", 200_000, 100_000))
    assert usage.cost == pytest.approx(0.4 * 3 + 0.2 * 15)
    assert usage.describe() == "2 requests, 400,000 + 200,000 tokens, cost about 4.20"
    assert Usage().cost is None
    assert Usage(price_out=1.0).cost == 0


def test_the_bar_shows_rate_usage_and_time_left(monkeypatch):
    """On a clock of our own: of 100 problems 40 are known, 20 take 60 seconds; 40 are left."""
    clock = [0.0]
    monkeypatch.setattr("ptdpo.chat.progress.time.monotonic", lambda: clock[0])
    shown = io.StringIO()
    usage = Usage()
    with UsageBar("hints", 100, usage, Console(file=shown, width=120)) as bar:
        for _ in range(40):
            bar.known()
        for _ in range(20):
            clock[0] += 3
            usage.add(ChatReply("x", "stop", 10, 5))
            bar.done()
    said = shown.getvalue()
    assert "60/100" in said
    assert "20/min, 20 requests, 200 + 100 tokens, 0:02:00 left" in said
