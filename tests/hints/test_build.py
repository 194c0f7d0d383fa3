"""Hints for a whole file against a real server: faults, rejections, fallback, resume, reviews."""

import json
import os
import signal
import time
from collections import Counter
from contextlib import nullcontext

import pytest
from PIL import Image

from ptdpo.chat.client import ClientSettings, Endpoint, EndpointError
from ptdpo.chat.jobs import Service, WorkFiles, read_failures
from ptdpo.data.attach import write_data
from ptdpo.data.files import read_hints, write_jsonl, write_problems
from ptdpo.data.identity import question_hash
from ptdpo.data.scan import count_rows, read_problems
from ptdpo.hints import check_hint
from ptdpo.hints.build import BuildSettings, build_hints
from ptdpo.hints.decisions import BY_REVIEWER, Decisions
from ptdpo.hints.prompt import system_prompt
from ptdpo.records import Hint, Problem
from ptdpo.signals import REQUEUE
from tests.chat.loopback import Cut, Hold, LoopbackServer, Raw, Refuse, Say, user_text
from tests.hints import build_worker
from tests.hints.build_worker import no_leak
from tests.processes import start

QUICK = ClientSettings(concurrency=8, first_wait=0.001, longest_wait=0.01, timeout=5.0)


def hint(text="the bar"):
    return Say(json.dumps({"look": text, "reason": "compare"}))


def question(body):
    """The question of a request, whichever attempt it is."""
    return user_text(body).split("Question:\n")[1].split("\n\nVerified")[0]


def build(server, problems, out, *, fallback=None, check=no_leak, review=None, client=QUICK, **settings):
    service = Service(Endpoint(server.url, "m"), fallback and Endpoint(fallback.url, "strong"), client)
    return build_hints(problems, out, service, BuildSettings(system_prompt(), **settings), check=check, review=review)


@pytest.fixture
def problems(tmp_path):
    """Twenty problems with one image."""
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    path = tmp_path / "problems.jsonl"
    write_problems(
        path, [Problem(str(n), (str(tmp_path / "a.png"),), f"question {n}", f"answer {n}") for n in range(20)]
    )
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "hints.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


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


def failures(out):
    return read_failures(WorkFiles.beside(out).failed)


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


def test_thirty_percent_failing_requests_lose_nothing(problems, out):
    troubles = (Refuse(500), Cut(30), Refuse(429, headers={"Retry-After": "0"}))

    def behave(body, number):
        return troubles[number % 3] if number % 10 < 3 else hint(question(body))

    with LoopbackServer(behave) as server:
        report = build(server, problems, out)
    assert (report.done, report.failed) == (20, [])
    assert Counter(map(question, server.answered)) == {f"question {n}": 1 for n in range(20)}
    assert report.usage.retries == len(server.received) - 20 > 0


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


def test_a_torn_last_line_of_the_output_is_repaired(problems, out):
    with LoopbackServer(lambda body, _: hint(question(body))) as server:
        build(server, problems, out)
        out.write_bytes(out.read_bytes()[:-9])
        assert build(server, problems, out).done == 1
    assert len(server.received) == 20
    assert len(read_hints(out)) == 20


def test_another_file_is_not_written_to(problems, out, tmp_path):
    with LoopbackServer(lambda *_: hint()) as server, pytest.raises(ValueError, match=r"problems\.jsonl:1: not a line"):
        build(server, problems, problems)
    assert not server.received


def test_a_hopeless_endpoint_ends_the_run_and_keeps_what_is_there(problems, out):
    with LoopbackServer(lambda _, n: hint() if n < 5 else Refuse(401, "no")) as server:
        with pytest.raises(EndpointError, match="status 401"):
            build(server, problems, out, client=ClientSettings(concurrency=1))
        assert len(server.received) == 6
        server.behave = lambda *_: hint()
        assert build(server, problems, out).done == 15
    assert len(server.received) == 21


def test_a_full_disk_ends_the_run_and_leaves_whole_lines(problems, out, monkeypatch):
    write, written = os.write, []

    def full(fd, data):
        written.append(write(fd, data[:20] if len(written) == 6 else data))
        if len(written) > 7:
            raise OSError(28, "No space left on device")
        return written[-1]

    with LoopbackServer(lambda *_: hint()) as server:
        with monkeypatch.context() as patch:
            patch.setattr("ptdpo.chat.store.os.write", full)
            with pytest.raises(ValueError, match="No space left"):
                build(server, problems, out)
        answered = len(lines(WorkFiles.beside(out).requests))
        report = build(server, problems, out)
    assert report.done + report.known == 20
    assert report.usage.requests == 20 - answered
    assert len(read_hints(out)) == 20


def review_file(tmp_path, **lists):
    path = tmp_path / "review.json"
    path.write_text(json.dumps(lists))
    return path


def test_a_review_replaces_what_it_rejects_and_keeps_what_it_accepts(problems, out, tmp_path):
    def behave(body, _):
        return hint(f"{question(body)}, {'again' if len(body['messages']) > 2 else 'first'}")

    review = review_file(tmp_path, accepted=["1"], rejected=["2"])
    with LoopbackServer(behave) as server:
        build(server, problems, out)
        report = build(server, problems, out, review=review)
        assert (report.done, len(server.received)) == (1, 21)
        assert BY_REVIEWER in server.received[-1]["messages"][-1]["content"]
        # The same list again, and no list at all, change nothing.
        assert build(server, problems, out, review=review).done == build(server, problems, out).done == 0
        hints = read_hints(out)
        assert (hints["2"].look, hints["1"].look) == ("question 2, again", "question 1, first")

        def stern(problem, hint):
            return no_leak(problem, hint) if "again" in hint.look else type(no_leak(problem, hint))(False, ["stern"])

        build(server, problems, out, check=stern, recheck=True)
    hints = read_hints(out)
    assert hints.pop("1").look == "question 1, first"
    assert {h.look.split(", ")[1] for h in hints.values()} == {"again"}


def test_a_rejected_hint_never_comes_back_even_after_a_kill(problems, out, tmp_path):
    with LoopbackServer(lambda body, _: hint("second" if len(body["messages"]) > 2 else "first")) as server:
        build(server, problems, out)
        server.behave = lambda *_: Refuse(401, "closed")
        with pytest.raises(EndpointError):
            build(server, problems, out, review=review_file(tmp_path, rejected=["2", "3"]))
        server.behave = lambda body, _: hint("second" if len(body["messages"]) > 2 else "first")
        assert build(server, problems, out).done == 2
    hints = read_hints(out)
    assert (hints["2"].look, hints["3"].look, hints["4"].look) == ("second", "second", "first")


def test_a_later_rejection_takes_an_acceptance_back_for_good(tmp_path):
    current = Hint("here", "so")
    with Decisions(tmp_path / "h.reviews.jsonl") as reviewed:
        reviewed.apply(review_file(tmp_path, accepted=["1", "2"]), lambda _: current)
        assert reviewed.accepted == {"1", "2"}
        reviewed.apply(review_file(tmp_path, rejected=["1"], reasons={"1": None}), lambda _: current)
        assert reviewed.accepted == {"2"}
        assert reviewed.reason_against("1", current) == BY_REVIEWER
    with Decisions(tmp_path / "h.reviews.jsonl") as again:
        assert again.accepted == {"2"}


def test_a_list_may_say_why(problems, out, tmp_path):
    with LoopbackServer(lambda body, _: hint("second" if len(body["messages"]) > 2 else "first")) as server:
        build(server, problems, out)
        build(server, problems, out, review=review_file(tmp_path, rejected=["2"], reasons={"2": "it can be guessed"}))
    assert "- it can be guessed" in server.received[-1]["messages"][-1]["content"]
    assert {row["id"]: row["rejected"] for row in lines(out)}["2"] == ["it can be guessed"]


def test_an_edited_hint_takes_the_place_of_its_own_and_asks_for_nothing(problems, out, tmp_path):
    def stern(problem, hint):
        return type(no_leak(problem, hint))(False, ["stern"])

    with LoopbackServer(lambda *_: hint("first")) as server:
        build(server, problems, out)
        before = {row["id"]: row for row in lines(out)}
        edited = {"2": {"look": " the left column ", "reason": "add up"}}
        review = review_file(tmp_path, accepted=["2"], rejected=[], edited=edited)
        asked = len(server.received)
        build(server, problems, out, review=review)
        again = build(server, problems, out)
        assert (again.done, len(server.received)) == (0, asked)
        rows = {row["id"]: row for row in lines(out)}
        new = {"hint": {"look": "the left column", "reason": "add up"}, "edited_from": before["2"]["hint"]}
        assert rows == {**before, "2": {**before["2"], **new}}
        failed = build(server, problems, out, check=stern, recheck=True, attempts=1, fallback_attempts=0).failed
        assert "2" not in {row.id for row in failed}
    assert read_hints(out)["2"].look == "the left column", "a reviewer's word stands, whatever the checks say"


def test_an_edit_is_taken_over_after_a_kill_and_only_once(tmp_path):
    first, second, third = Hint("1", "r"), Hint("2", "r"), Hint("3", "r")
    path = tmp_path / "h.reviews.jsonl"
    with Decisions(path) as reviewed:
        edited = {"1": {"look": "2", "reason": "r"}}
        reviewed.apply(review_file(tmp_path, edited=edited), lambda _: first)
    with Decisions(path) as reviewed:
        assert reviewed.accepted == {"1"}
        assert reviewed.edit_of("1", first) == second
        assert reviewed.edit_of("1", second) is reviewed.edit_of("1", third) is reviewed.edit_of("2", first) is None
        reviewed.apply(review_file(tmp_path, rejected=["1"]), lambda _: second)
        reviewed.apply(review_file(tmp_path, edited={"1": {"look": "2", "reason": "r"}}, reasons={}), lambda _: third)
        assert reviewed.reason_against("1", second) is None, "who wrote it now thinks better of it"


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"edited": ["1"]}', "'edited' must be an object"), ('{"edited": {"1": "text"}}', "edited.1: .* needs text"),
     ('{"edited": {"1": {"look": " ", "reason": "r"}}}', "edited.1: .* needs text"),
     ('{"edited": {"x": {"look": "l", "reason": "r"}}}', "no line with the id 'x'"),
     ('{"rejected": ["1"], "edited": {"1": {"look": "l", "reason": "r"}}}', "at once: 1"),
     ("{", "cannot be read"), ("[]", "a review is"), ('{"rejected": "01"}', "'rejected' must be a list of ids"),
     ('{"accepted": [null]}', "'accepted' must be a text or a number, found null"),
     ('{"rejected": ["x"]}', "no line with the id 'x'"),
     ('{"accepted": ["1"], "rejected": ["1"]}', "at once: 1")],
)  # fmt: skip
def test_bad_reviews_are_refused(problems, out, tmp_path, content, message):
    (tmp_path / "r.json").write_text(content)
    with LoopbackServer(lambda *_: hint()) as server:
        build(server, problems, out)
        with pytest.raises(ValueError, match=message):
            build(server, problems, out, review=tmp_path / "r.json")


def worker(problems, out, server, said):
    return start(build_worker.run, str(problems), str(out), server.url, 4, said=said)


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def stored(out):
    path = WorkFiles.beside(out).requests
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("answers", [0, 7, 18])
def test_kill_minus_nine_then_resume(problems, out, answers, tmp_path):
    """The server answers so many requests and then none; the process is killed with the next ones in flight."""
    in_flight = min(4, 20 - answers)
    with LoopbackServer(lambda body, n: hint(question(body)) if n < answers else Hold(hint(question(body)))) as server:
        first = worker(problems, out, server, tmp_path / "first.txt")
        until(lambda: len(server.received) == answers + in_flight and stored(out) == answers)
        first.kill()
        first.join()
        answered = {question(body) for body in server.answered}
        assert len(answered) == answers
        server.behave = lambda body, _: hint(question(body))
        second = worker(problems, out, server, tmp_path / "second.txt")
        second.join()
    assert (tmp_path / "second.txt").read_text().split()[-1] == "0"
    assert second.exitcode == 0
    asked_again = {question(body) for body in server.received[answers + in_flight :]}
    assert asked_again == {f"question {n}" for n in range(20)} - answered
    assert len(server.received) == 20 + in_flight
    ids = [row["id"] for row in lines(out)]
    assert sorted(ids, key=int) == [str(n) for n in range(20)]
    assert {h.look for h in read_hints(out).values()} == {f"question {n}" for n in range(20)}


def test_ctrl_c_finishes_what_is_in_flight(problems, out, tmp_path):
    said = tmp_path / "said.txt"
    with LoopbackServer(lambda body, n: hint() if n < 6 else Hold(hint())) as server:
        process = worker(problems, out, server, said)
        until(lambda: len(server.received) == 10)
        os.kill(process.pid, signal.SIGINT)
        until(lambda: "stopping" in said.read_text())
        server.release()
        process.join(20)
    assert process.exitcode == REQUEUE, said.read_text()
    assert len(server.received) == 10
    assert len(read_hints(out)) == stored(out) == 10


def test_a_second_ctrl_c_stops_at_once(problems, out, tmp_path):
    said = tmp_path / "said.txt"
    with LoopbackServer(lambda body, n: hint() if n < 6 else Hold(hint())) as server:
        process = worker(problems, out, server, said)
        until(lambda: len(server.received) == 10)
        os.kill(process.pid, signal.SIGINT)
        until(lambda: "stopping" in said.read_text())
        os.kill(process.pid, signal.SIGINT)
        process.join(20)
    assert process.exitcode == REQUEUE, said.read_text()
    assert len(read_hints(out)) == stored(out) == 6
    assert "Traceback" not in said.read_text()


def test_answers_that_are_no_protocol_at_all(problems, out):
    with LoopbackServer(lambda *_: Raw("<html>")) as server, pytest.raises(EndpointError, match="in a row failed"):
        build(server, problems, out, client=ClientSettings(attempts=2, first_wait=0.001, longest_wait=0.01))
