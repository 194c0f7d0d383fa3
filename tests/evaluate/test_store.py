import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptdpo.evaluate.store import GradedResponse, ResponseStore
from tests.evaluate.fixtures import graded, kept


def test_what_is_appended_is_read_back(tmp_path):
    rows = [
        graded("a"),
        graded("a", 1, 0.0, "2"),
        GradedResponse("b", 0, "line\nbreak \u2028 \0", None, 0, 0, 1, True),
    ]
    kept(tmp_path / "b", rows[:1])
    store = kept(tmp_path / "b", rows[1:])
    assert store.read() == rows
    assert len(store.path.read_bytes().splitlines()) == 3


@given(cut=st.integers(1, 60))
def test_a_kill_at_any_byte_costs_at_most_the_line_it_hit(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("store")
    store = kept(folder, [graded("a"), graded("b")])
    whole = store.path.read_bytes()
    store.path.write_bytes(whole[: -min(cut, len(whole) - 1)])
    lost = whole.count(b"\n") - store.path.read_bytes().count(b"\n")
    assert [r.id for r in kept(folder, [graded("c")]).read()] == [*["a", "b"][: 2 - lost], "c"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", r"responses.jsonl:2: not a response \(JSONDecodeError"),
        ('{"id": "b"}', r"responses.jsonl:2: not a response \(KeyError: 'sample'"),
        ("[1]", "responses.jsonl:2: not a response"),
        ("\udcff", r"responses.jsonl:2: not a response \(UnicodeDecodeError"),
        (None, "sample 0 of 'a' is there twice"),
        ({"id": "z"}, "'z' is no question of this benchmark"),
        ({"sample": 4}, "sample 4 of 'a', but 2 are asked for"),
        ({"sample": 1, "accuracy": math.nan}, r"responses.jsonl:2: .*accuracy is nan: must be in \[0, 1\]"),
        ({"sample": 1, "accuracy": "1"}, r"responses.jsonl:2: .*accuracy is str '1'"),
    ],
)
def test_a_broken_line_is_refused_by_number(tmp_path, line, message):
    store = kept(tmp_path, [graded("a")])
    if not isinstance(line, str):
        line = json.dumps({**json.loads(store.path.read_text()), **(line or {})})
    with store.path.open("a", errors="surrogateescape") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=message):
        store.read({"a", "b"}, 2)


def test_no_file_is_no_response(tmp_path):
    assert ResponseStore(tmp_path).read() == []


def test_two_processes_do_not_write_to_one_file(tmp_path):
    with ResponseStore(tmp_path), pytest.raises(ValueError, match=r"responses.jsonl: another run is writing"):
        ResponseStore(tmp_path).__enter__()
