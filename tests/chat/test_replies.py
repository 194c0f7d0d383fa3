"""What is no reply is tried again, counted by id, and never kept; an old store that holds one heals."""

import json
from dataclasses import replace

import pytest

from ptdpo.chat.client import EndpointError
from ptdpo.chat.progress import Usage
from tests.chat.asking import QUICK, ask, request, scripted
from tests.chat.loopback import Drip, LoopbackServer, Raw, Refuse, Say, completion


def odd(**changes):
    """A completion with fields changed: of the message, of the usage, or of the whole."""
    content = completion(Say("fine"))
    for name, value in changes.items():
        inner = content["choices"][0] if name == "finish_reason" else content
        inner = content["choices"][0]["message"] if name in ("content", "reasoning_content") else inner
        inner = content["usage"] if name.endswith("_tokens") else inner
        inner[name] = value
    return Raw(json.dumps(content))


INVALID = {
    "a list of parts": (odd(content=[{"type": "text", "text": "fine"}]), "its content is list"),
    "a number": (odd(content=3), "its content is int '3'"),
    "null": (odd(content=None), "its content is null"),
    "half a character": (odd(content="a\ud800b"), r"its content has half a character (U+D800)"),
    "half a thought": (odd(reasoning_content="\udfff"), "its reasoning has half a character"),
    "tokens as text": (odd(prompt_tokens="many"), "its usage.prompt_tokens is str 'many'"),
    "tokens as a fraction": (odd(completion_tokens=1.5), "its usage.completion_tokens is float"),
    "tokens below zero": (odd(completion_tokens=-1), "its usage.completion_tokens is int '-1'"),
    "another model": (odd(model="other"), "it is of the model 'other', asked was 'm'"),
    "a model that is no name": (odd(model=7), "it is of the model '7'"),
    "a reason that is no text": (odd(finish_reason=7), "its finish_reason is int"),
    "no choices": (odd(choices=[]), "it has no choices"),
    "choices that are a text": (odd(choices="x"), "it has no choices"),
    "usage that is a list": (odd(usage=[1]), "its usage is list '[1]', not an object"),
    "a thought that is no text": (odd(reasoning_content={"a": 1}), "its reasoning is dict"),
    "brackets without an end": (Raw("[" * 200_000), "maximum recursion depth"),
}


@pytest.mark.parametrize("name", INVALID)
def test_what_is_no_reply_is_tried_again_and_never_kept(tmp_path, name):
    raw, why = INVALID[name]
    usage, store = Usage(), tmp_path / "s.jsonl"
    with LoopbackServer(scripted(raw)) as server:
        (reply,) = ask(server, store, request(), usage=usage)
        assert (reply.text, len(server.received)) == ("fine", 2)
        assert usage.invalid == ["1"]
        assert "1 invalid replies (to 1)" in usage.describe()
        assert len(store.read_text().splitlines()) == 1
        server.behave = lambda *_: raw
        (error,) = ask(server, store, request("other"), settings=replace(QUICK, attempts=2))
    assert f"not a chat completion ({why}" in str(error)
    assert len(store.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (odd(content=None, finish_reason="length"), ""),
        (odd(content=None, reasoning_content="so"), "fine"),
        (odd(content=""), ""),
        (odd(usage=None), "fine"),
        (odd(model="M"), "fine"),
        (odd(model="m-2026-01-01"), "fine"),
        (odd(model="owner/m"), "fine"),
        (odd(model=None), "fine"),
    ],
)
def test_what_servers_really_send_is_a_reply(tmp_path, raw, text):
    with LoopbackServer(lambda *_: raw) as server:
        (reply,) = ask(server, tmp_path / "s.jsonl", request())
    assert reply.text in (text, "")
    assert len(server.received) == 1


@pytest.mark.parametrize("field", [{"text": [{"text": "x"}]}, {"text": None}, {"text": "\ud800"},
                                   {"prompt_tokens": "7"}, {"finish_reason": 3}])  # fmt: skip
def test_an_old_store_that_holds_one_heals(tmp_path, field):
    store = tmp_path / "s.jsonl"
    with LoopbackServer(scripted()) as server:
        ask(server, store, request())
        row = json.loads(store.read_text())
        row["reply"] |= field
        store.write_text(json.dumps(row) + "\n")
        for _ in range(2):
            (reply,) = ask(server, store, request())
            assert reply.text == "fine"
    assert len(server.received) == 2, "asked once more, and then known"


def test_a_server_that_drips_is_given_up_after_the_time_out(tmp_path):
    with LoopbackServer(scripted(Drip())) as server:
        (reply,) = ask(server, tmp_path / "s.jsonl", request(), settings=replace(QUICK, timeout=0.4))
    assert (reply.text, len(server.received)) == ("fine", 2)


def test_what_the_server_asks_to_wait_is_shown(tmp_path):
    usage = Usage()
    with LoopbackServer(scripted(Refuse(429, headers={"Retry-After": "1"}))) as server:
        ask(server, tmp_path / "s.jsonl", request(), usage=usage)
    assert "the server asked to wait up to 1 s" in usage.describe()


def test_a_redirect_to_another_host_is_refused_and_one_on_the_same_host_is_followed(tmp_path):
    with LoopbackServer(lambda *_: Say("stolen")) as other:
        to = {"location": f"http://localhost:{other.port}/v1/chat/completions"}
        with LoopbackServer(lambda *_: Refuse(307, headers=to)) as server:
            (error,) = ask(server, tmp_path / "s.jsonl", request())
        assert isinstance(error, EndpointError)
        assert "sends its requests on to http://localhost: name that as the base URL if you trust it" in str(error)
        assert other.received == []
    with LoopbackServer(scripted(Refuse(307, headers={"location": "/v1/elsewhere"}))) as server:
        (reply,) = ask(server, tmp_path / "s2.jsonl", request())
        assert reply.text == "fine"
