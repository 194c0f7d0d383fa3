"""The comparison with and without hints against a real server."""

import json
import math
from dataclasses import astuple

import pytest

from ptdpo.chat.client import ClientSettings, Endpoint
from ptdpo.chat.jobs import Service
from ptdpo.data.files import write_hints, write_problems
from ptdpo.data.prompts import THINKING_INSTRUCTION
from ptdpo.hints.usefulness import HintedDraws, UsefulnessSettings, measure_usefulness, summarise
from ptdpo.records import Hint, Problem
from tests.chat.loopback import LoopbackServer, Say, user_text


@pytest.mark.parametrize(
    ("without", "with_hint", "flag"),
    [(1, 3, ""), (2, 2, "does not help"), (3, 1, "does not help"), (4, 4, "always solved without the hint"),
     (0, 0, "never solved with the hint"), (2, 0, "never solved with the hint")],
)  # fmt: skip
def test_hints_that_do_not_help_are_flagged(without, with_hint, flag):
    assert HintedDraws("1", 4, without, with_hint, 0).flag == flag


def test_the_mean_gain_and_its_interval():
    result = summarise([HintedDraws("1", 4, 0, 4, 0), HintedDraws("2", 4, 0, 2, 0)])
    # Gains 1 and 0.5: deviation sqrt(1 / 8), t(1) = 12.7062.
    half = 12.7062 * math.sqrt(0.125 / 2)
    assert astuple(result.gain) == pytest.approx((0.75, 0.75 - half, 0.75 + half), abs=1e-4)
    assert result.rows() == [("pass@1", "0.000", "0.750"), ("pass@2", "0.000", "0.917"), ("pass@4", "0.000", "1.000")]
    with pytest.raises(ValueError, match="no problem"):
        summarise([])


def test_against_a_server_twice(tmp_path):
    """The model solves problem 0 only with the hint, problem 1 always, problem 2 never."""
    write_problems(tmp_path / "p.jsonl", [Problem(str(n), (), f"question {n}", str(n)) for n in range(4)])
    write_hints(tmp_path / "h.jsonl", {str(n): Hint(f"clue {n}", "count") for n in range(3)}, "m")

    def behave(body, _):
        text = user_text(body)
        solved = "question 1" in text or "clue 0" in text
        return Say(f"so \\boxed{{{text.split('question ')[1][0]}}}" if solved else "\\boxed{-5}")

    with LoopbackServer(behave) as server:
        service = Service(Endpoint(server.url, "m"), settings=ClientSettings())
        paths = tmp_path / "p.jsonl", tmp_path / "h.jsonl", tmp_path / "u.jsonl"
        for _ in range(2):
            result, report = measure_usefulness(*paths, service, UsefulnessSettings(draws=3))
    assert len(server.received) == 3 * 2 * 3
    assert report.usage.reused == 18
    assert result.flagged() == {"always solved without the hint": ["1"], "never solved with the hint": ["2"]}
    rows = {row["id"]: row for row in map(json.loads, (tmp_path / "u.jsonl").read_text().splitlines())}
    assert (rows["0"]["right_without"], rows["0"]["right_with"], rows["0"]["gain"]) == (0, 3, 1.0)
    assert not any("question 3" in user_text(body) for body in server.received)
    hinted = [user_text(body) for body in server.received if "Hint." in user_text(body)]
    assert all(text.endswith(THINKING_INSTRUCTION) for text in hinted), "as the teacher reads it"
