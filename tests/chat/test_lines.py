"""Opening an output cuts off a torn line of ours, and never touches what another program wrote."""

import json

import pytest

from ptdpo.chat.lines import KeyedLines


def tag(row):
    return row["hint"]


def test_a_whole_last_line_of_another_program_is_not_cut_off(tmp_path):
    path = tmp_path / "p.jsonl"
    for content in ('{"id": "1", "problem": "how many?"}', '{"id": "1", "hint": "x"}\n{"id": "2", "answer": 3}'):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"p\.jsonl:\d: not a line that this command writes"):
            KeyedLines(path, tag)
        assert path.read_text() == content


def test_a_torn_line_is_cut_off(tmp_path):
    path, whole = tmp_path / "h.jsonl", json.dumps({"id": "1", "hint": "x"}) + "\n"
    path.write_text(whole + '{"id": "2", "hi')
    with KeyedLines(path, tag) as lines:
        assert ("1" in lines, "2" in lines) == (True, False)
    assert path.read_text() == whole
