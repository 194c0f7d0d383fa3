"""Hints for a whole file against a real server: faults, rejections, fallback, resume, reviews."""

import json
from contextlib import nullcontext

import pytest
from PIL import Image

from ptdpo.chat.client import ClientSettings
from ptdpo.chat.jobs import WorkFiles
from ptdpo.data.attach import write_data
from ptdpo.data.files import read_hints, write_jsonl
from ptdpo.data.identity import question_hash
from ptdpo.data.scan import count_rows, read_problems
from ptdpo.hints import check_hint
from ptdpo.records import Problem
from tests.chat.loopback import LoopbackServer, Refuse, Say
from tests.hints.building import build, failures, hint, lines, question


def test_every_problem_gets_a_hint_and_a_second_run_asks_nothing(problems, out):
    with LoopbackServer(lambda body, _: hint(question(body))) as server:
        report = build(server, problems, out)
        assert (report.done, report.known, report.failed) == (20, 0, [])
        assert (again := build(server, problems, out)).known == 20
        assert again.done == 0
    assert len(server.received) == 20
    assert {key: h.look for key, h in read_hints(out).items()} == {str(n): f"question {n}" for n in range(20)}
    (first,) = (row for row in lines(out) if row["id"] == "0")
    assert first["hint"] == {"look": "question 0", "reason": "compare"}
    assert (first["model"], first["attempts"], first["rejected"]) == ("m", 1, [])
    assert not WorkFiles.beside(out).failed.exists()


def test_the_same_question_without_its_output_costs_nothing(problems, out):
    with LoopbackServer(lambda body, _: hint(question(body))) as server:
        build(server, problems, out)
        before = sorted(out.read_text().splitlines())
        out.unlink()
        report = build(server, problems, out)
    assert len(server.received) == 20
    assert report.usage.reused == 20
    assert sorted(out.read_text().splitlines()) == before


def test_a_rejected_hint_is_asked_for_again_with_the_reason(problems, out):
    with LoopbackServer(lambda body, _: hint("leak" if len(body["messages"]) == 2 else "fine")) as server:
        build(server, problems, out)
    assert all((row["attempts"], row["rejected"]) == (2, ["tells the answer"]) for row in lines(out))
    (again, *_) = (body for body in server.received if len(body["messages"]) == 4)
    assert json.loads(again["messages"][2]["content"])["look"] == "leak"
    assert "tells the answer" in again["messages"][3]["content"]


def test_our_rules_send_a_leak_back(problems, out):
    def behave(body, _):
        leak = len(body["messages"]) == 2
        reason = f"It is {question(body).replace('question', 'answer')}." if leak else "Compare both, then subtract."
        return Say(json.dumps({"look": "Look at the left bar and its label in the chart.", "reason": reason}))

    with LoopbackServer(behave) as server:
        build(server, problems, out, check=check_hint)
    assert all(row["attempts"] == 2 and row["rejected"][0].startswith("answer: ") for row in lines(out))
    assert "answer: " in server.received[-1]["messages"][3]["content"]


def test_repeated_rejection_goes_to_the_fallback_with_the_same_prompt(problems, out):
    with LoopbackServer(lambda *_: hint("leak")) as server, LoopbackServer(lambda *_: hint("fine")) as strong:
        report = build(server, problems, out, fallback=strong, attempts=2)
    assert (len(server.received), len(strong.received), report.done) == (40, 20, 20)
    assert all((row["model"], row["attempts"]) == ("strong", 3) for row in lines(out))
    assert strong.received[0]["model"] == "strong"
    assert strong.received[0]["messages"][0] == server.received[0]["messages"][0]


def test_a_cut_off_response_goes_to_the_fallback_at_once(problems, out):
    cut = Say('{"look": "the bar", "reason": "comp', "length", completion_tokens=16_384)
    with LoopbackServer(lambda *_: cut) as server, LoopbackServer(lambda *_: hint("fine")) as strong:
        build(server, problems, out, fallback=strong)
    assert (len(server.received), len(strong.received)) == (20, 20)
    assert server.received[0]["max_tokens"] == 16_384
    assert all(row["rejected"] == ["cut off after 16384 tokens"] for row in lines(out))
    assert all(len(body["messages"]) == 2 for body in strong.received)


def test_without_a_fallback_a_cut_off_response_is_drawn_again(problems, out):
    with LoopbackServer(lambda _, n: Say("", "length") if n < 20 else hint()) as server:
        report = build(server, problems, out, client=ClientSettings(concurrency=20))
    assert (report.done, len(server.received)) == (20, 40)


@pytest.mark.parametrize(
    "bad",
    [Say("I cannot"), Say('{"look": 1}'), Say(""), Say('{"wrong": "schema"}'), Refuse(400, "content policy")],
    ids=repr,
)
def test_failures_are_listed_by_id_and_the_rest_goes_on(problems, out, bad):
    with LoopbackServer(lambda body, _: bad if question(body) == "question 7" else hint()) as server:
        report = build(server, problems, out, attempts=2)
        assert (report.done, [row.id for row in report.failed]) == (19, ["7"])
        assert set(failures(out)) == {"7"}
        server.behave = lambda *_: hint()
        assert build(server, problems, out, attempts=3).done == 1
    assert not WorkFiles.beside(out).failed.exists()
    assert len(read_hints(out)) == 20


def test_bad_rows_are_reported_by_id_and_the_rest_goes_on(problems, out, tmp_path):
    (tmp_path / "torn.png").write_bytes((tmp_path / "a.png").read_bytes()[:45])
    extra = [
        {"id": "absent", "images": ["none.png"], "problem": "q", "answer": "a"},
        {"id": "torn", "images": ["torn.png"], "problem": "q", "answer": "a"},
        {"id": "unanswered", "problem": "q", "answer": " "},
        {"id": "unasked", "problem": "", "answer": "a"},
        {"id": "3", "problem": "another", "answer": "a"},
        {"id": "untyped", "problem": 5, "answer": "a"},
        {"problem": "q", "answer": "a"},
    ]
    text = problems.read_text() + "".join(json.dumps(row) + "\n" for row in extra) + "{broken\n"
    problems.write_text(text)
    with LoopbackServer(lambda *_: hint()) as server:
        report = build(server, problems, out)
    found = failures(out)
    assert report.done == 20
    assert len(server.received) == 20
    assert "no such image" in found["absent"]
    assert "not a readable image" in found["torn"]
    assert found["unanswered"] == "empty answer"
    assert found["unasked"] == "empty question"
    assert "used twice" in found["3"]
    assert "'problem' must be str" in found["untyped"]
    assert "'id' is missing" in found["line 27"]
    assert "not valid JSON" in found["line 28"]


def test_a_question_that_changed_gets_a_new_hint(problems, out):
    with LoopbackServer(lambda body, _: hint(question(body))) as server:
        build(server, problems, out)
        problems.write_text(problems.read_text().replace("question 5", "other 5"))
        assert build(server, problems, out).done == 1
    assert read_hints(out)["5"].look == "other 5"


def test_an_image_that_changed_gets_a_new_hint_and_hashes_of_words_alone_are_taken(problems, out, tmp_path):
    with LoopbackServer(lambda *_: hint()) as server:
        build(server, problems, out, limit=2)
        Image.new("RGB", (8, 8), "blue").save(tmp_path / "a.png")
        assert build(server, problems, out, limit=2).done == 2
        words = [question_hash(Problem(str(n), (), f"question {n}", f"answer {n}")) for n in range(2)]
        rows = {row["id"]: {**row, "question_hash": words[int(row["id"])]} for row in lines(out)}
        write_jsonl(out, rows.values())
        assert build(server, problems, out, limit=2).known == 2


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_limit_takes_the_first_rows_and_the_bar_knows_how_many_there_are(problems, out, tmp_path, kind, monkeypatch):
    path, totals = tmp_path / f"p.{kind}", []
    write_data(path, read_problems(problems))
    monkeypatch.setattr("ptdpo.chat.jobs.UsageBar", lambda label, total, *_: totals.append(total) or nullcontext(Bar()))
    with LoopbackServer(lambda *_: hint()) as server:
        assert build(server, path, out, limit=3).done == 3
        assert {row["id"] for row in lines(out)} == {"0", "1", "2"}
        assert build(server, path, out).known == 3
    assert totals == [3, 20]
    assert count_rows(path, 30) == 20


class Bar:
    def known(self): ...
    def done(self): ...


def test_another_file_is_not_written_to(problems, out, tmp_path):
    with LoopbackServer(lambda *_: hint()) as server, pytest.raises(ValueError, match=r"problems\.jsonl:1: not a line"):
        build(server, problems, problems)
    assert not server.received
