"""Keys in the environment and in addresses reach no message, no file and no terminal."""

import pytest

from ptdpo.chat.client import ChatClient, Endpoint
from ptdpo.chat.secrets import Mask, check_url, public_url, query_of, without_query
from ptdpo.chat.store import RequestStore
from ptdpo.data.files import write_hints, write_problems
from ptdpo.records import Hint, Problem
from tests.chat.loopback import LoopbackServer, Refuse
from tests.processes import command

KEY, PASSWORD, QUERY = "sk-live-0123456789abcdef", "pass%2Fword-77", "query-key-4242"
SECRETS = (KEY, PASSWORD, "pass/word-77", QUERY, KEY[:12], QUERY[:9])


def test_a_key_is_masked_before_the_message_is_shortened():
    mask = Mask(KEY, f"http://me:{PASSWORD}@host/v1?key={QUERY}")
    for length in range(480, 501):
        shown = mask("x" * length + KEY)
        assert len(shown) <= 500
        assert "sk-" not in shown
    assert mask(f"no {PASSWORD}\n or pass/word-77 or {QUERY}") == "no *** or *** or ***"
    assert Mask("", "http://host/v1?v=1")("version 1") == "version 1"
    assert mask("a\x1b[31mred\x07") == "a�[31mred�"


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("http://host:8000/v1", "http://host:8000/v1"),
        ("https://me:pw@host/v1?key=a&b=c#d", "https://host/v1"),
        ("https://key@host?key=a", "https://host"),
        ("me:pw@host/v1?key=a", "host/v1"),
        ("https://me:p@w@host/v1", "https://host/v1"),
    ],
)
def test_an_address_is_shown_without_secrets(url, public):
    assert public_url(url) == public


def test_the_query_of_an_address_goes_with_every_request():
    url = "https://host/v1?key=a%20b&empty="
    assert query_of(url) == {"key": "a b", "empty": ""}
    assert without_query(url) == "https://host/v1"


@pytest.mark.parametrize(
    "url", ["localhost:8000", "http://", "http:///v1", "http://host:99999/v1", "http://host:x/v1", "http://[::1/v1",
            "http://ho st/v1", "http://host/v1\n", "ftp://host", "http://host:0/"],
)  # fmt: skip
def test_a_malformed_address_is_refused_at_once(tmp_path, url):
    with pytest.raises(ValueError, match=r"^base URL "):
        check_url(url)
    with RequestStore(tmp_path / "s.jsonl") as store, pytest.raises(ValueError, match=r"^base URL "):
        ChatClient(Endpoint(url, "m"), store)


def test_a_refusal_of_an_address_shows_no_secret():
    with pytest.raises(ValueError, match="base URL") as refused:
        check_url(f"ftp://me:{PASSWORD}@host/v1?key={QUERY}")
    assert not any(secret in str(refused.value) for secret in SECRETS)


COMMANDS = {
    "build": ("hints", "build", "--problems", "p.jsonl", "--out", "out.jsonl"),
    "recoverability": ("hints", "recoverability", "h.jsonl", "--problems", "p.jsonl", "--out", "out.jsonl"),
    "usefulness": ("hints", "usefulness", "h.jsonl", "--problems", "p.jsonl", "--out", "out.jsonl"),
    "solutions": ("solutions", "build", "--problems", "p.jsonl", "--out", "out.jsonl"),
    "evaluate": ("evaluate", "p.jsonl", "--out", "results"),
}


@pytest.mark.parametrize(("name", "status"), [(name, 500 if name == "build" else 400) for name in COMMANDS])
def test_no_output_of_any_command_holds_the_key(tmp_path, monkeypatch, name, status):
    monkeypatch.chdir(tmp_path)
    write_problems(tmp_path / "p.jsonl", [Problem(str(n), (), "how many?", "3", "s") for n in range(2)])
    write_hints(tmp_path / "h.jsonl", {str(n): Hint("the bar", "compare") for n in range(2)}, "m")
    said = "x" * 490 + f" {KEY} me:{PASSWORD} pass/word-77 {QUERY} \x1b]0;title\x07"
    with LoopbackServer(lambda *_: Refuse(status, said, code=KEY)) as server:
        url = f"http://me:{PASSWORD}@127.0.0.1:{server.port}/v1?key={QUERY}"
        more = ("m",) if name == "evaluate" else ()
        given = [
            *COMMANDS[name][:1], *more, *COMMANDS[name][1:], "--base-url", url,
            *(() if more else ("--model", "m")), "--api-key-env", "MY_KEY", "--tries", "1",
        ]  # fmt: skip
        process = command(*given, said=tmp_path / "said.txt", MY_KEY=KEY)
        process.join()
    assert process.exitcode in (1, 2)
    assert server.received
    said = (tmp_path / "said.txt").read_bytes()
    assert b"***" in said
    assert b"Traceback" not in said
    for content in [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]:
        assert not any(secret.encode() in content for secret in SECRETS), content
        assert b"\x1b]0" not in content
