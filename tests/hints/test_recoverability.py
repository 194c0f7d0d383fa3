"""The chance model on made-up guesses, and the whole check against a real server."""

import json
import random

import pytest

from ptdpo.chat.client import ClientSettings, Endpoint
from ptdpo.chat.jobs import Service
from ptdpo.data.files import write_hints, write_problems
from ptdpo.hints.recoverability import Guessed, RecoverySettings, judge_recovery, measure_recoverability
from ptdpo.records import Hint, Problem
from tests.chat.loopback import LoopbackServer, Refuse, Say, user_text

LETTERS = "ABCD"


def test_a_leak_among_many_hints_is_rejected_and_the_others_are_not():
    rng = random.Random(0)
    harmless = [
        Guessed(str(n), str(rng.randint(0, 50)), tuple(str(rng.randint(0, 50)) for _ in range(8))) for n in range(300)
    ]
    leaks = [Guessed(f"leak {n}", str(1000 + n), ("7", *[f"{1000 + n}.0"] * 7)) for n in range(3)]
    judged = {one.id: one for one in judge_recovery([*harmless, *leaks])}
    assert all(judged[f"leak {n}"].rejected for n in range(3))
    assert judged["leak 0"].recovered == 7
    assert judged["leak 0"].p_value == pytest.approx(1 / 303)
    assert sum(one.rejected for one in judged.values()) <= 3 + 300 * 0.03


def test_a_model_that_always_says_b_recovers_nothing():
    guessed = [Guessed(str(n), LETTERS[n % 4], ("B",) * 8) for n in range(400)]
    judged = judge_recovery(guessed)
    assert not any(one.rejected for one in judged)
    assert [one.chance for one in judged[:4]] == [0, 1, 0, 0]


def test_guesses_from_one_hint_that_resemble_each_other_are_no_proof():
    """Each hint gets one letter eight times, drawn at random: a binomial tail would reject a quarter of them."""
    rng = random.Random(1)
    guessed = [Guessed(str(n), rng.choice(LETTERS), (rng.choice(LETTERS),) * 8) for n in range(400)]
    assert not any(one.rejected for one in judge_recovery(guessed))


def test_leaks_of_the_same_answer_do_not_excuse_each_other():
    others = [Guessed(str(n), "red", ("blue", "green")) for n in range(200)]
    leaks = [Guessed(f"leak {n}", "violet", ("Violet", "violet.")) for n in range(50)]
    assert sum(one.rejected for one in judge_recovery([*others, *leaks])) == 50


@pytest.mark.parametrize(
    ("answer", "right", "rejected"),
    [("B", 8, True), ("B", 5, False), ("yes", 6, False), ("yes", 8, True), ("7", 4, True), ("7", 2, False),
     ("1234", 2, False), ("1234", 3, True), ("1234", 0, False)],
)  # fmt: skip
def test_a_small_file_uses_a_floor_by_kind_of_answer(answer, right, rejected):
    (judged,) = judge_recovery([Guessed("1", answer, (answer,) * right + (None,) * (8 - right))])
    assert (judged.recovered, judged.guesses, judged.rejected) == (right, 8, rejected)


def test_a_measured_rate_above_the_floor_counts():
    guessed = [
        Guessed("1", "five", ("five",) * 4 + (None,) * 4),
        *(Guessed(f"{n}", "x", ("five", "y")) for n in range(2, 9)),
    ]
    judged = judge_recovery(guessed)[0]
    assert judged.chance == 0.5
    assert not judged.rejected


def measure(server, tmp_path, **settings):
    service = Service(Endpoint(server.url, "m"), settings=ClientSettings(first_wait=0.001, longest_wait=0.01))
    paths = tmp_path / "p.jsonl", tmp_path / "h.jsonl", tmp_path / "r.jsonl"
    return measure_recoverability(*paths, service, RecoverySettings(**settings))


@pytest.fixture
def files(tmp_path):
    write_problems(tmp_path / "p.jsonl", [Problem(str(n), (), f"question {n}", f"secret {n}") for n in range(3)])
    hints = {str(n): Hint(f"hint {n}", "look" if n else "say secret 0") for n in range(3)}
    write_hints(tmp_path / "h.jsonl", hints | {"stray": Hint("a", "b")}, "m")
    return tmp_path


def test_the_model_sees_the_hint_and_nothing_else(files):
    def behave(body, _):
        return Say("\\boxed{secret 0}" if "secret 0" in user_text(body) else "no idea")

    with LoopbackServer(behave) as server:
        judged, report = measure(server, files)
        assert {one.id: (one.recovered, one.rejected) for one in judged} == {
            "0": (8, True),
            "1": (0, False),
            "2": (0, False),
        }
        assert [row.id for row in report.failed] == ["stray"]
        measure(server, files)
    assert len(server.received) == 24
    assert not any(
        "question" in user_text(body).replace("the question", "").replace("a question", "") for body in server.received
    )
    rows = [json.loads(line) for line in (files / "r.jsonl").read_text().splitlines()]
    assert {row["id"]: row["guesses"] for row in rows}["0"] == ["secret 0"] * 8


def test_a_hint_without_an_answer_from_the_server_is_reported(files):
    with LoopbackServer(lambda body, _: Refuse(400, "no") if "hint 1" in user_text(body) else Say("?")) as server:
        judged, report = measure(server, files, guesses=2)
    assert sorted(one.id for one in judged) == ["0", "2"]
    assert sorted(row.id for row in report.failed) == ["1", "stray"]


@pytest.mark.parametrize("settings", [{"guesses": 0}, {"alpha": 0.0}, {"alpha": 1.0}])
def test_settings_that_measure_nothing_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        RecoverySettings(**settings)
