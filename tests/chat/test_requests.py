"""What a request says: its body, its schema, its key."""

from dataclasses import replace

import pytest

from ptdpo.chat.requests import ChatMessage, ChatRequest, ResponseSchema, Sampling, request_key
from tests.chat.asking import QUICK, ask, request, scripted
from tests.chat.loopback import LoopbackServer, Refuse, Say, user_text

SCHEMA = ResponseSchema("hint", {"type": "object"})


def test_a_schema_is_dropped_for_good_when_the_server_does_not_know_it(tmp_path):
    def behave(body, _):
        return Refuse(400, "response_format?") if "response_format" in body else Say("fine")

    settings = replace(QUICK, concurrency=1)
    with LoopbackServer(behave) as server:
        replies = ask(server, tmp_path / "s.jsonl", *(request(t, schema=SCHEMA) for t in "abc"), settings=settings)
    assert [reply.text for reply in replies] == ["fine"] * 3
    assert ["response_format" in body for body in server.received] == [True, False, False, False]


def test_a_refusal_for_another_reason_keeps_the_schema(tmp_path):
    def behave(body, _):
        return Refuse(400, "bad image") if user_text(body) == "a" else Say("fine")

    settings = replace(QUICK, concurrency=1)
    with LoopbackServer(behave) as server:
        error, reply = ask(server, tmp_path / "s.jsonl", *(request(t, schema=SCHEMA) for t in "ab"), settings=settings)
    assert "bad image" in str(error)
    assert reply.text == "fine"
    assert server.received[-1]["response_format"]["json_schema"]["name"] == "hint"


def test_newer_models_get_the_limit_under_its_newer_name(tmp_path):
    def behave(body, _):
        return Refuse(400, "use 'max_completion_tokens' instead") if "max_tokens" in body else Say("fine")

    with LoopbackServer(behave) as server:
        (reply,) = ask(server, tmp_path / "s.jsonl", request(sampling=Sampling(max_tokens=7)))
    assert reply.text == "fine"
    assert server.received[-1]["max_completion_tokens"] == 7


def test_the_body_holds_what_was_asked_for(tmp_path):
    asked = request(sampling=Sampling(max_tokens=9, temperature=0.5, top_p=None, seed=3, extra='{"top_k": 20}'))
    with LoopbackServer(scripted()) as server:
        ask(server, tmp_path / "s.jsonl", asked)
    (body,) = server.received
    assert body == {
        "model": "m", "messages": [{"role": "user", "content": "question"}],
        "max_tokens": 9, "temperature": 0.5, "seed": 3, "top_k": 20,
    }  # fmt: skip


def test_the_key_of_a_request_is_its_content(picture):
    base = ChatRequest("1", "m", (ChatMessage("user", "see", (str(picture),)),))
    others = [
        replace(base, id="2"), replace(base, model="n"), replace(base, sample=1), replace(base, prompt_version="2"),
        replace(base, sampling=Sampling(temperature=0.5)), replace(base, schema=SCHEMA),
        replace(base, messages=(ChatMessage("user", "look", (str(picture),)),)),
    ]  # fmt: skip
    keys = [request_key(r) for r in (base, *others)]
    assert len(set(keys)) == len(keys)
    moved = picture.with_name("moved.png")
    moved.write_bytes(picture.read_bytes())
    assert request_key(replace(base, messages=(ChatMessage("user", "see", (str(moved),)),))) == keys[0]
    picture.write_bytes(picture.read_bytes() + b" ")
    assert request_key(base) != keys[0]


@pytest.mark.parametrize("extra", ["{", "[]"])
def test_bad_extra_fields_are_refused(tmp_path, extra):
    with LoopbackServer(scripted()) as server:
        (error,) = ask(server, tmp_path / "s.jsonl", request(sampling=Sampling(extra=extra)))
    assert "extra fields" in str(error)
