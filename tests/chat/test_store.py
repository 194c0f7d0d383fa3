"""Replies that are kept: torn and broken lines, two writers."""

import json

import pytest

from ptdpo.chat.store import RequestStore
from tests.chat.asking import ask, request, scripted
from tests.chat.loopback import LoopbackServer, Say, user_text


def test_a_torn_last_line_is_cut_off_and_asked_for_again(tmp_path):
    store = tmp_path / "s.jsonl"
    with LoopbackServer(lambda body, _: Say(user_text(body) * 50_000)) as server:
        ask(server, store, *(request(t) for t in "abc"))
        whole = store.read_bytes()
        store.write_bytes(whole[:-7])
        ask(server, store, *(request(t) for t in "abc"))
    assert [user_text(body) for body in server.received[3:]] == [user_text(server.received[2])]
    assert [json.loads(line)["key"] for line in store.read_text().splitlines()] == [
        json.loads(line)["key"] for line in whole.decode().splitlines()
    ]


def test_a_broken_line_in_the_middle_counts_as_not_answered(tmp_path):
    store = tmp_path / "s.jsonl"
    with LoopbackServer(scripted()) as server:
        ask(server, store, request("a"), request("b"))
        lines = store.read_text().splitlines()
        store.write_text(f"{lines[0][:90]}\nnonsense\n{lines[1]}\n")
        replies = ask(server, store, request("a"), request("b"))
    assert [reply.text for reply in replies] == ["fine", "fine"]
    assert len(server.received) == 3


def test_two_runs_cannot_write_one_store(tmp_path):
    with RequestStore(tmp_path / "s.jsonl"), pytest.raises(ValueError, match="another run is writing"):
        RequestStore(tmp_path / "s.jsonl")
