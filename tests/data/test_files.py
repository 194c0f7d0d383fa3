import json

import pytest

from ptdpo.data.checks import BadRow, find_bad_rows
from ptdpo.data.files import (
    read_hints,
    read_made_hints,
    read_made_solutions,
    read_solutions,
    write_hints,
    write_jsonl,
    write_problems,
    write_solutions,
)
from ptdpo.data.scan import read_problems, scan_problems
from ptdpo.hints.hint_lines import read_hint_lines
from ptdpo.records import Hint, Problem, Solution


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_problems_survive_a_round_trip_and_images_stay_relative(tmp_path):
    inside, outside = tmp_path / "set" / "a.png", tmp_path / "b.png"
    problems = [
        Problem("1", (str(inside), str(outside)), "how many?", "3", "test"),
        Problem("2", (), "why?", "x", prompt_with_hint="why? Hint: look", feedback="off by one"),
    ]
    path = tmp_path / "set" / "problems.jsonl"
    write_problems(path, problems)
    assert json.loads(path.read_text().splitlines()[0])["images"] == ["a.png", str(outside)]
    assert read_problems(path) == problems


def test_hints_and_solutions_survive_a_round_trip(tmp_path):
    hints = {"1": Hint("left", "count"), "2": Hint("right", "add")}
    write_hints(tmp_path / "h.jsonl", hints, model="m")
    assert read_hints(tmp_path / "h.jsonl") == hints
    row = json.loads((tmp_path / "h.jsonl").read_text().splitlines()[0])
    assert row == {"id": "1", "hint": {"look": "left", "reason": "count"}, "model": "m", "attempts": 1, "rejected": []}
    write_solutions(tmp_path / "s.jsonl", [Solution("1", "r")])
    assert read_solutions(tmp_path / "s.jsonl") == {"1": "r"}


GOOD = {"id": "1", "images": [], "problem": "p", "answer": "a"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "1", "answer": "a"}], r":1: the field 'problem' is missing \(found: answer, id\)"),
        ([GOOD, GOOD], "the id '1' is used twice, by rows 1 and 2"),
        ([{**GOOD, "problem": 3}], "'problem' must be str, found int"),
        ([{**GOOD, "images": {"path": "a.png"}}], "'images' must be list, found dict"),
        ([{**GOOD, "images": [1]}], "list of paths"),
        ([["a"]], "expected a JSON object, found list"),
        ([{**GOOD, "id": None}], ":1: the field 'id' must be a text or a number, found null"),
        ([{**GOOD, "id": True}], "'id' must be a text or a number, found bool: True"),
        ([GOOD, {**GOOD, "id": 2, "answer": ["a", "b"]}], r":2: the field 'answer' .* found list: \['a', 'b'\]"),
        ([{**GOOD, "answer": {"value": 3}}], "'answer' must be a text or a number, found dict"),
        ([{**GOOD, "answer": False}], "'answer' must be a text or a number, found bool"),
        ([{**GOOD, "source": ["a"]}], "'source' must be a text or a number"),
        ([{**GOOD, "feedback": 5}], ":1: the field 'feedback' must be str, found int"),
        ([{**GOOD, "prompt_with_hint": 5}], ":1: the field 'prompt_with_hint' must be str, found int"),
    ],
)
def test_bad_problems_name_file_and_line(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message) as error:
        read_problems(lines(tmp_path / "p.jsonl", *rows))
    assert "p.jsonl" in str(error.value)


def test_broken_json_and_missing_file(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": 1}\n{"id"\n')
    with pytest.raises(ValueError, match=r"p\.jsonl:1: the field 'problem'"):
        read_problems(path)
    path.write_text("\n{broken\n")
    with pytest.raises(ValueError, match=":2: not valid JSON"):
        read_problems(path)
    with pytest.raises(ValueError, match="no such file"):
        read_problems(tmp_path / "absent.jsonl")


def test_numbers_as_ids_and_answers_become_text(tmp_path):
    (problem,) = read_problems(lines(tmp_path / "p.jsonl", {"id": 7, "problem": "p", "answer": 3}))
    assert (problem.id, problem.answer, problem.images) == ("7", "3", ())


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_missing_answer_is_empty_and_so_a_bad_row(tmp_path, missing):
    row = {**GOOD, "answer": missing, "source": None}
    (problem,) = read_problems(lines(tmp_path / "p.jsonl", row))
    assert (problem.answer, problem.source) == ("", "")
    assert [bad.reason for bad in find_bad_rows([problem]).bad] == ["empty answer"]


def test_hints_and_solutions_without_a_usable_id_are_refused(tmp_path):
    hint = {"id": None, "hint": {"look": "x", "reason": "y"}}
    with pytest.raises(ValueError, match=r"h\.jsonl:1: the field 'id'.*null"):
        read_hints(lines(tmp_path / "h.jsonl", hint))
    assert "h.jsonl:1: the field 'id'" in read_hint_lines(lines(tmp_path / "h.jsonl", hint), {"None"}).mistakes[0]
    with pytest.raises(ValueError, match=r"s\.jsonl:1: the field 'id'.*list"):
        read_solutions(lines(tmp_path / "s.jsonl", {"id": [1], "response": "r"}))


def test_a_scan_reports_rows_of_the_wrong_type_and_goes_on(tmp_path):
    rows = [{**GOOD, "id": None}, {**GOOD, "id": 2, "answer": [1]}, {**GOOD, "id": 3, "answer": None}, GOOD]
    first, second, third, fourth = scan_problems(lines(tmp_path / "p.jsonl", *rows))
    assert (first.id, second.id, third) == ("line 1", "2", BadRow("3", "empty answer"))
    assert fourth.id == "1"


def test_what_is_not_utf_8_is_named_by_its_line(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b'\n{"id": "\xff"}\n')
    with pytest.raises(ValueError, match=r"p\.jsonl:2: not UTF-8 text"):
        read_problems(path)
    good, bad = scan_problems(path)
    assert (good.id, bad) == ("1", BadRow("line 2", f"{path}:2: not UTF-8 text"))
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"p\.jsonl:1: not readable as JSON"):
        read_problems(path)


@pytest.mark.parametrize("hint", ["text", {"look": "x"}, {"look": 1, "reason": "y"}])
def test_bad_hints_are_named(tmp_path, hint):
    with pytest.raises(ValueError, match=r"h\.jsonl:1"):
        read_hints(lines(tmp_path / "h.jsonl", {"id": "1", "hint": hint}))


def test_two_hints_for_one_id(tmp_path):
    row = {"id": "1", "hint": {"look": "x", "reason": "y"}}
    with pytest.raises(ValueError, match="used twice"):
        read_hints(lines(tmp_path / "h.jsonl", row, row))


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "p.jsonl"
    write_jsonl(path, [{"old": 1}])

    def rows():
        yield {"new": 1}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_jsonl(path, rows())
    assert path.read_text() == '{"old": 1}\n'


@pytest.mark.parametrize("turns", [[], [{"from": "human", "value": "q"}], ["text"], [{"from": "gpt", "value": 3}], "x"])
def test_a_conversation_must_end_with_the_response(tmp_path, turns):
    with pytest.raises(ValueError, match=r"s\.jsonl:1"):
        read_solutions(lines(tmp_path / "s.jsonl", {"id": "1", "conversations": turns}))


def test_hints_and_solutions_say_for_which_questions_they_are(tmp_path):
    problems = [Problem("1", (), "how many?", "3"), Problem("2", (), "which?", "a")]
    write_hints(tmp_path / "h.jsonl", {"1": Hint("a", "b"), "9": Hint("a", "b")}, "rule", problems)
    write_solutions(tmp_path / "s.jsonl", [Solution("2", "x")], problems)
    hints, solutions = read_made_hints(tmp_path / "h.jsonl"), read_made_solutions(tmp_path / "s.jsonl")
    assert hints["1"].fits(problems[0])
    assert not hints["1"].fits(Problem("1", (), "how many more?", "3"))
    assert hints["9"].question_hash == ""
    assert not solutions["2"].fits(Problem("2", (), "which?", "b"))
