"""Tables as people have them, ids made from content, and what was made for another question."""

import io
import json

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from ptdpo.config import DataSettings, Recipe
from ptdpo.data.files import read_made_hints, write_jsonl
from ptdpo.data.identity import MadeFor, content_id, fitting, question_hash
from ptdpo.data.images import open_image
from ptdpo.data.load import load_data, source_of
from ptdpo.data.parquet import images_cache
from ptdpo.data.rows import Reading
from ptdpo.data.scan import read_problems, read_rows
from ptdpo.records import Problem
from ptdpo.train.provenance import provenance_of
from tests.processes import start


def png(colour):
    out = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(out, "PNG")
    return out.getvalue()


RED, BLUE = png("red"), png("blue")
CELL = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
ONE = {"bytes": RED, "path": None}


def table(path, images, kind, name="images", **columns):
    columns = {"problem": ["q"] * len(images), "answer": ["a"] * len(images), **columns}
    columns[name] = pyarrow.array(images, kind)
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        (ONE, CELL),
        ([ONE], pyarrow.list_(CELL)),
        ([ONE], pyarrow.large_list(CELL)),
        ([ONE], pyarrow.list_(CELL, 1)),
        (RED, pyarrow.binary()),
        (RED, pyarrow.large_binary()),
        ([RED], pyarrow.list_(pyarrow.binary())),
        ("red.png", pyarrow.string()),
        (["red.png"], pyarrow.list_(pyarrow.string())),
        (["red.png"], pyarrow.list_(pyarrow.large_string())),
        ({"bytes": None, "path": "red.png"}, CELL),
    ],
)
def test_images_in_every_form_are_read(tmp_path, cell, kind):
    (tmp_path / "red.png").write_bytes(RED)
    (problem,) = read_problems(table(tmp_path / "t.parquet", [cell], kind))
    assert [open_image(path).getpixel((0, 0)) for path in problem.images] == [(255, 0, 0)]


@pytest.mark.parametrize(
    ("cell", "kind", "found"),
    [
        ([ONE, None], pyarrow.list_(CELL), "image 2 is null or empty"),
        ({"bytes": None, "path": None}, CELL, "image 1 is null or empty"),
        ([""], pyarrow.list_(pyarrow.string()), "image 1 is null or empty"),
        ([3], pyarrow.list_(pyarrow.int64()), "image 1 is neither a path nor the bytes of an image, found int"),
    ],
)
def test_a_row_that_would_lose_an_image_is_a_bad_one(tmp_path, cell, kind, found):
    read = read_rows(table(tmp_path / "t.parquet", [cell, None], kind))
    assert [row.reason for row in read.bad] == [f"{tmp_path / 't.parquet'}, row 0: {found}"]
    assert [problem.images for problem in read.problems] == [()], "a null cell is a question without images"


def test_the_columns_of_virl39k_are_read_as_they_are(tmp_path):
    path = tmp_path / "39k.parquet"
    extra = {"PassRate_32BTrained": [0.5], "category": ["x"], "source": ["s"], "qid": ["q-1"]}
    rows = {"question": ["<image>how many?"], "answer": ["\\boxed{3}"], **extra, "image": [["red.png"]]}
    pyarrow.parquet.write_table(pyarrow.table(rows), path)
    (problem,) = read_problems(path)
    assert (problem.id, problem.problem, problem.answer, problem.source) == ("q-1", "<image>how many?", "3", "s")
    assert problem.images == (str(tmp_path / "red.png"),)


def test_columns_of_any_name_are_read_as_said(tmp_path):
    path = table(tmp_path / "t.parquet", [ONE], CELL, name="photo", text=["other"])
    with pytest.raises(ValueError, match=r"'images' is missing \(found: problem, answer, text, photo\)"):
        read_problems(path)
    (problem,) = read_problems(path, Reading({"images": "photo", "problem": "text"}))
    assert (problem.problem, len(problem.images)) == ("other", 1)
    with pytest.raises(ValueError, match="no column 'absent'"):
        read_problems(path, Reading({"images": "absent"}))


@pytest.mark.parametrize("name", ["image", "img", "decoded", "prompt_with_hints"])
def test_a_column_that_would_be_passed_over_with_its_images_is_refused(tmp_path, name):
    cell = ["text"] if name == "prompt_with_hints" else pyarrow.array([ONE], CELL)
    path = table(tmp_path / "t.parquet", [None], pyarrow.list_(pyarrow.string()), **{name: cell})
    with pytest.raises(ValueError, match=f"the column '{name}' would be passed over"):
        read_problems(path)
    if name != "prompt_with_hints":
        with pytest.raises(ValueError, match=f"row 0: unknown key '{name}'.* The row has no image"):
            read_problems(path, Reading(allow_unknown=True))
        path = table(tmp_path / "t.parquet", [[RED]], pyarrow.list_(pyarrow.binary()), **{name: cell})
    assert len(read_problems(path, Reading(allow_unknown=True))) == 1


def test_relative_paths_start_at_the_folder_of_their_own_file(tmp_path):
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
        table(tmp_path / part / "t.parquet", ["red.png"], pyarrow.string(), problem=[part])
    assert [p.images for p in read_problems(tmp_path)] == [(str(tmp_path / part / "red.png"),) for part in ("a", "b")]
    table(tmp_path / "b" / "t.parquet", ["red.png"], pyarrow.string(), other=["x"])
    with pytest.raises(ValueError, match="has the columns"):
        read_problems(tmp_path)


def say_how_many(path):
    print(len(read_problems(path)))


def test_many_processes_write_the_same_images_at_once(tmp_path):
    cells = [{"bytes": png((n, 0, 0)), "path": None} for n in range(120)]
    path = table(tmp_path / "t.parquet", cells, CELL)
    there = {"said": tmp_path / "said.txt", "PTDPO_CACHE": str(tmp_path / "cache")}
    runs = [start(say_how_many, path, **there) for _ in range(3)]
    for run in runs:
        run.join()
    assert there["said"].read_text() == "120\n" * 3
    stored = [file for file in (tmp_path / "cache" / "images").rglob("*") if file.is_file()]
    assert len(stored) == 120
    assert all(open_image(file).size == (8, 8) for file in stored)


def test_the_cache_is_where_it_is_said_to_be(monkeypatch, tmp_path):
    monkeypatch.setenv("PTDPO_CACHE", str(tmp_path))
    assert images_cache() == tmp_path / "images"
    monkeypatch.delenv("PTDPO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert images_cache() == tmp_path / "x" / "ptdpo" / "images"


def test_the_source_follows_from_the_path(tmp_path):
    table(tmp_path / "t.parquet", [ONE], CELL)
    known = {"p.jsonl": "jsonl", str(tmp_path / "t.parquet"): "parquet", str(tmp_path): "parquet", "own/set": "hub"}
    assert {path: source_of(DataSettings(path=path)) for path in known} == known
    assert source_of(DataSettings("hub", "train.jsonl")) == "jsonl", "a recipe of the hub with the path of a file"
    with pytest.raises(ValueError, match=r"data.source=jsonl: .* looks like parquet"):
        source_of(DataSettings("jsonl", "t.parquet"))


# -- ids and hashes --------------------------------------------------------------------------------------------


def test_ids_made_from_content_stay_when_rows_move(tmp_path):
    rows = {"problem": ["one", "two", "one"], "answer": ["1", "2", "1"]}
    cells = [{"bytes": content, "path": None} for content in (RED, RED, BLUE)]
    before = {
        p.problem + str(p.images): p.id for p in read_problems(table(tmp_path / "a.parquet", cells, CELL, **rows))
    }
    moved = {name: [values[n] for n in (2, 0, 1)] for name, values in rows.items()}
    again = read_problems(table(tmp_path / "b.parquet", [cells[n] for n in (2, 0, 1)], CELL, **moved))
    assert {p.problem + str(p.images): p.id for p in again} == before
    assert len(set(before.values())) == 3, "the picture is part of it"
    alike = read_problems(table(tmp_path / "c.parquet", cells[:1] * 2, CELL))
    assert alike[1].id == f"{alike[0].id}-2"


def test_every_part_of_a_problem_enters_its_id(tmp_path):
    for name, content in (("a.png", RED), ("b.png", BLUE)):
        (tmp_path / name).write_bytes(content)
    base = Problem("", (str(tmp_path / "a.png"),), "q", "a")
    others = [
        Problem("", (str(tmp_path / "b.png"),), "q", "a"), Problem("", (), "q", "a"),
        Problem("", base.images, "p", "a"), Problem("", base.images, "q", "b"),
    ]  # fmt: skip
    assert len({content_id(one) for one in (base, *others)}) == 5
    assert content_id(base) == content_id(Problem("other", base.images, "<image>\nq", "a", "elsewhere"))


@pytest.fixture
def data(tmp_path):
    problems = [{"id": str(n), "problem": f"question {n}", "answer": str(n)} for n in range(4)]
    write_jsonl(tmp_path / "p.jsonl", problems)
    hashes = [question_hash(Problem(p["id"], (), p["problem"], p["answer"])) for p in problems]
    hint = {"look": "left", "reason": "count"}
    rows = [{"id": p["id"], "hint": hint, "question_hash": h} for p, h in zip(problems, hashes, strict=True)]
    write_jsonl(tmp_path / "h.jsonl", rows)
    talks = [
        {"id": p["id"], "conversations": [{"from": "human", "value": f"<image>{p['problem']}\n\nThink."},
                                          {"from": "gpt", "value": "r"}]} for p in problems
    ]  # fmt: skip
    write_jsonl(tmp_path / "s.jsonl", talks)
    return tmp_path


def moved(folder, **change):
    rows = [json.loads(line) for line in (folder / "p.jsonl").read_text().splitlines()]
    write_jsonl(folder / "p.jsonl", [{**row, **change} if row["id"] == "2" else row for row in rows])


@pytest.mark.parametrize(
    ("made", "change", "refused"),
    [
        ("hints", {"problem": "another"}, True),
        ("hints", {"answer": "another"}, True),
        ("solutions", {"problem": "another"}, True),
        ("hints", {"source": "another"}, False),
    ],
)
def test_what_was_made_for_another_question_is_refused_and_counted(data, made, change, refused):
    moved(data, **change)
    given = {made: str(data / f"{made[0]}.jsonl")}
    settings = DataSettings(path=str(data / "p.jsonl"), **given)
    if refused:
        with pytest.raises(ValueError, match=rf"1 of 4 {made} were made for another question, image or answer .*\(2\)"):
            load_data(settings)
    read = load_data(DataSettings(path=settings.path, ignore_question=True, **given))
    assert len(getattr(read, made)) == 4


def test_what_was_made_for_another_image_is_refused_unless_it_says_words_only(tmp_path):
    for name, content in (("a.png", RED), ("b.png", BLUE)):
        (tmp_path / name).write_bytes(content)
    red, blue = (Problem("1", (str(tmp_path / name),), "q", "a") for name in ("a.png", "b.png"))
    made = {"1": MadeFor("hint", question_hash(red))}
    assert fitting(made, [red], "h", "hints") == {"1": "hint"}
    with pytest.raises(ValueError, match=r"1 of 1 hints were made for another question, image or answer"):
        fitting(made, [blue], "h", "hints")
    before_images_counted = MadeFor("hint", question_hash(Problem("1", (), "q", "a")))
    assert before_images_counted.fits(blue)
    assert not before_images_counted.fits(Problem("1", blue.images, "q", "b"))


def test_a_file_that_does_not_say_what_it_was_made_for_is_taken_at_its_word(data):
    write_jsonl(data / "h.jsonl", [{"id": "2", "hint": {"look": "l", "reason": "r"}}])
    moved(data, problem="another")
    assert list(fitting(read_made_hints(data / "h.jsonl"), read_problems(data / "p.jsonl"), "h", "hints")) == ["2"]


def test_a_data_file_that_changes_is_noticed_before_a_run_goes_on(data):
    recipe = Recipe("grpo", "m", DataSettings(path=str(data / "p.jsonl"), hints=str(data / "h.jsonl")))
    before = provenance_of(recipe)
    assert provenance_of(recipe) == before
    moved(data, answer="another")
    after = provenance_of(recipe)
    assert after != before
    assert {**after, "read_from": before["read_from"]} == before
