"""The client against a real server on loopback that misbehaves on command."""

from dataclasses import replace

import pytest

from ptdpo.chat.client import ChatClient, ClientSettings, Endpoint, EndpointError, RequestError
from ptdpo.chat.progress import Usage
from ptdpo.chat.store import RequestStore
from tests.chat.asking import QUICK, ask, request, scripted
from tests.chat.loopback import Cut, LoopbackServer, Raw, Refuse, Say, user_text


def test_a_reply_is_kept_and_never_asked_for_again(tmp_path):
    usage = Usage(price_in=2.0, price_out=4.0)
    with LoopbackServer(lambda body, _: Say(f"re: {user_text(body)}", prompt_tokens=500_000)) as server:
        (first,) = ask(server, tmp_path / "s.jsonl", request(), usage=usage)
        (again,) = ask(
            server, tmp_path / "s.jsonl", request(), usage=usage, settings=replace(QUICK, timeout=9, concurrency=1)
        )
    assert first == again
    assert (first.text, first.finish_reason, first.prompt_tokens, first.completion_tokens) == (
        "re: question",
        "stop",
        500_000,
        5,
    )
    assert len(server.received) == 1
    assert (usage.requests, usage.reused) == (1, 1)
    assert usage.cost == pytest.approx(1.00002)


@pytest.mark.parametrize(
    "trouble",
    [
        Refuse(429, headers={"Retry-After": "0"}),
        Refuse(500),
        Refuse(503),
        Refuse(408),
        Cut(0),
        Cut(40),
        Cut(250),
        Raw("{broken"),
        Raw("[]"),
        Raw('"text"'),
        Raw('{"choices": []}'),
        Raw("{}"),
    ],
    ids=repr,
)
def test_passing_trouble_is_tried_again(tmp_path, trouble):
    usage = Usage()
    with LoopbackServer(scripted(trouble, trouble)) as server:
        (reply,) = ask(server, tmp_path / "s.jsonl", request(), usage=usage)
    assert getattr(reply, "text", reply) == "fine"
    assert (len(server.received), usage.retries, usage.requests) == (3, 2, 1)


def test_a_slow_answer_times_out_and_is_tried_again(tmp_path):
    with LoopbackServer(scripted(Say("late", delay=3.0))) as server:
        (reply,) = ask(server, tmp_path / "s.jsonl", request(), settings=replace(QUICK, timeout=0.3))
    assert (reply.text, len(server.received)) == ("fine", 2)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, RequestError), (403, RequestError), (413, RequestError), (401, EndpointError), (404, EndpointError)],
)
def test_mistakes_are_not_repeated_and_quote_the_server(tmp_path, status, kind):
    with LoopbackServer(lambda *_: Refuse(status, "no such thing as that")) as server:
        (error,) = ask(server, tmp_path / "s.jsonl", request())
    assert isinstance(error, kind)
    assert isinstance(error, ValueError)
    assert f"status {status}: no such thing as that" in str(error)
    assert server.url in str(error)
    assert len(server.received) == 1


def test_an_empty_account_ends_the_run_although_it_is_a_429(tmp_path):
    with LoopbackServer(lambda *_: Refuse(429, "pay first", code="insufficient_quota")) as server:
        (error,) = ask(server, tmp_path / "s.jsonl", request())
    assert isinstance(error, EndpointError)
    assert len(server.received) == 1


def test_after_the_last_attempt_a_request_has_failed_and_says_why(tmp_path):
    with LoopbackServer(lambda *_: Refuse(500, "on fire")) as server:
        (error,) = ask(server, tmp_path / "s.jsonl", request(), settings=replace(QUICK, attempts=3))
    assert isinstance(error, RequestError)
    assert str(error) == "no answer in 3 attempts; the last: status 500: on fire"
    assert len(server.received) == 3


def test_a_server_that_always_fails_ends_the_run(tmp_path):
    settings = replace(QUICK, give_up_after=3, concurrency=1)
    with LoopbackServer(lambda *_: Refuse(400, "bad field")) as server:
        errors = ask(server, tmp_path / "s.jsonl", *(request(str(n)) for n in range(3)), settings=settings)
    assert [type(error) for error in errors] == [RequestError, RequestError, EndpointError]
    assert "3 requests in a row failed" in str(errors[2])


def test_no_server_at_all(tmp_path):
    with LoopbackServer(scripted()) as server:
        pass
    (error,) = ask(server, tmp_path / "s.jsonl", request(), settings=replace(QUICK, attempts=2))
    assert "connection broken" in str(error)


def test_thirty_percent_failures_lose_nothing(tmp_path):
    def behave(body, number):
        return (Refuse(500), Cut(60), Raw("{"))[number % 3] if number % 10 < 3 else Say(user_text(body))

    requests = [request(f"question {n}") for n in range(200)]
    with LoopbackServer(behave) as server:
        replies = ask(server, tmp_path / "s.jsonl", *requests)
        assert [reply.text for reply in replies] == [f"question {n}" for n in range(200)]
        assert len(server.answered) == 200
        ask(server, tmp_path / "s.jsonl", *requests)
    assert len(server.answered) == 200


def test_the_key_comes_from_the_environment_and_is_never_shown_or_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PTDPO_TEST_KEY", "sk-very-secret")

    def behave(body, number):
        return Refuse(401, "wrong key sk-very-secret given") if user_text(body) == "bad" else Say("fine")

    with LoopbackServer(behave) as server:
        _, error = ask(server, tmp_path / "s.jsonl", request(), request("bad"))
    assert server.headers[0]["authorization"] == "bearer sk-very-secret"
    assert "***" in str(error)
    assert "sk-very-secret" not in str(error) + (tmp_path / "s.jsonl").read_text()
    assert "PTDPO_TEST_KEY is not accepted" in str(error)
    monkeypatch.delenv("PTDPO_TEST_KEY")
    with LoopbackServer(lambda *_: Refuse(401, "key?")) as server:
        (error,) = ask(server, tmp_path / "s2.jsonl", request())
    assert "PTDPO_TEST_KEY is not set" in str(error)


@pytest.mark.parametrize("settings", [{"concurrency": 0}, {"timeout": 0}, {"attempts": -1}])
def test_settings_that_send_nothing_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        ClientSettings(**settings)


def test_an_address_must_be_one(tmp_path):
    with RequestStore(tmp_path / "s.jsonl") as store, pytest.raises(ValueError, match="http://"):
        ChatClient(Endpoint("localhost:8000", "m"), store)
