"""``ptdpo hints check`` and ``review`` as a user types them."""

import json
import re

import pytest
from PIL import Image
from typer.testing import CliRunner

from ptdpo import cli
from ptdpo.data.files import write_hints, write_jsonl, write_problems
from ptdpo.records import Hint, Problem

GOOD = Hint("The bars on the left.", "Compare their heights.")
LEAK = Hint("The bars on the left.", "There are twelve.")


@pytest.fixture
def files(tmp_path):
    Image.new("RGB", (40, 30), "white").save(tmp_path / "a.png")
    problems = [Problem(str(n), (str(tmp_path / "a.png"),), "How many?", "12") for n in range(4)]
    write_problems(tmp_path / "problems.jsonl", problems)
    write_hints(tmp_path / "hints.jsonl", {"0": GOOD, "1": LEAK, "2": GOOD}, "m")
    return tmp_path


def hints(*arguments):
    return CliRunner().invoke(cli.app, ["hints", *map(str, arguments)])


def check(files, *more):
    return hints("check", files / "hints.jsonl", "--problems", files / "problems.jsonl", *more)


def test_check_counts_reasons_lists_ids_and_writes_verdicts(files):
    result = check(files, "--out", files / "verdicts.jsonl")
    assert result.exit_code == 1
    assert "3 hints: 2 fit, 1 rejected" in result.output
    lines = [json.loads(line) for line in (files / "verdicts.jsonl").read_text().splitlines()]
    assert [(line["id"], line["ok"]) for line in lines] == [("0", True), ("1", False), ("2", True)]
    assert lines[1]["reasons"][0].startswith("answer: ")


def test_check_is_silent_about_clean_hints(files):
    write_hints(files / "hints.jsonl", {"0": GOOD}, "m")
    assert check(files).exit_code == 0


def test_unusable_lines_are_named_and_the_rest_is_checked(files):
    good = {"id": "0", "hint": {"look": GOOD.look, "reason": GOOD.reason}}
    write_jsonl(
        files / "hints.jsonl", [good, good, {**good, "id": "99"}, {"id": "2"}, {**good, "id": ["x"]}, {**good, "id": 3}]
    )
    with (files / "hints.jsonl").open("ab") as out:
        out.write(b'[1]\n\xff\xfe\n{"id": "1", "hint": {"look": "cut o')
    result = check(files, "--out", files / "verdicts.jsonl")
    assert result.exit_code == 2
    numbers = [line.split("hints.jsonl:")[1].partition(":")[0] for line in result.stderr.splitlines()]
    assert numbers == ["2", "3", "4", "5", "7", "8", "9"]
    assert "used twice, first in line 1" in result.stderr
    assert "'99' belongs to no problem" in result.stderr
    assert len((files / "verdicts.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check"], "--self-test"),
        (["check", "none.jsonl", "--problems", "problems.jsonl"], "none.jsonl: no such file"),
        (["check", "hints.jsonl", "--problems", "none.jsonl"], "none.jsonl: no such file"),
        (["check", "empty.jsonl", "--problems", "problems.jsonl"], "holds no hints"),
    ],
)
def test_mistakes_are_named(files, monkeypatch, arguments, message):
    monkeypatch.chdir(files)
    (files / "empty.jsonl").touch()
    result = hints(*arguments)
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)


def test_self_test_prints_both_parts():
    result = hints("check", "--self-test")
    assert result.exit_code == 0
    assert "development part" in result.output
    assert "held-out part" in result.output


@pytest.mark.parametrize(("only", "count"), [("all", 3), ("fit", 2), ("rejected", 1)])
def test_review_writes_the_chosen_hints(files, only, count):
    page = files / "pages" / "review.html"
    result = hints(
        "review", files / "hints.jsonl", "--problems", files / "problems.jsonl", "--out", page, "--only", only
    )
    assert result.exit_code == 0
    assert f"{count} hints" in result.output
    assert page.read_text().count('"key":') == count


def test_review_names_a_broken_image_and_still_writes_the_page(files):
    (files / "a.png").write_bytes(b"")
    page = files / "review.html"
    result = hints("review", files / "hints.jsonl", "--problems", files / "problems.jsonl", "--out", page)
    assert result.exit_code == 2
    assert "not a readable image" in result.stderr
    assert page.exists()


def test_review_shows_what_was_measured(files):
    page, guessed, answered = files / "review.html", files / "guessed.jsonl", files / "answered.jsonl"
    ids = [json.loads(line)["id"] for line in (files / "hints.jsonl").read_text().splitlines()]
    line = {"id": ids[0], "guesses": ["1", None], "recovered": 1, "chance": 0.25, "p_value": 0.5, "rejected": False}
    guessed.write_text(json.dumps(line) + "\n")
    answered.write_text(
        json.dumps({"id": ids[0], "draws": 4, "right_without": 1, "right_with": 3, "cut_off": 0}) + "\n"
    )
    where = ["review", files / "hints.jsonl", "--problems", files / "problems.jsonl", "--out", page]
    result = hints(*where, "--recoverability", guessed, "--usefulness", answered)
    assert result.exit_code == 0, result.output
    assert page.read_text().count('"guessed":{"right":1,"of":2,"chance":0.25,"p":0.5}') == 1
    assert page.read_text().count('"answered":{"without":1,"with":3,"of":4,"gain":0.5}') == 1
    assert page.read_text().count('"guessed":null') == len(ids) - 1


@pytest.mark.parametrize("option", ["--recoverability", "--usefulness"])
@pytest.mark.parametrize(
    ("line", "message"),
    [('{"id": "x"}', r"measures\.jsonl:1: not a line that ptdpo hints"), ("", "none of these hints")],
)
def test_measures_of_something_else_are_refused(files, option, line, message):
    (files / "measures.jsonl").write_text(line + "\n" if line else "")
    where = ["review", files / "hints.jsonl", "--problems", files / "problems.jsonl", "--out", files / "page.html"]
    result = hints(*where, option, files / "measures.jsonl")
    assert re.search(message, str(result.exception))
    assert not (files / "page.html").exists()
