"""Images that only the teacher sees: columns like any other's images, checked, and put where the question says."""

import io
from dataclasses import replace

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from ptdpo.config import DataSettings
from ptdpo.data.checks import find_bad_rows
from ptdpo.data.dataset import rl_dataset
from ptdpo.data.files import read_jsonl, write_jsonl, write_problems
from ptdpo.data.images import open_image
from ptdpo.data.load import load_data
from ptdpo.data.prompts import IMAGE_MARKER, conversation
from ptdpo.data.readable import readable_row
from ptdpo.data.rows import Reading
from ptdpo.data.scan import read_problems
from ptdpo.data.teacher_images import TeacherImages, view_of, with_places
from ptdpo.records import Problem
from ptdpo.tutor.context import shown_to_teacher

GOOD = {"id": "1", "problem": "how many?", "answer": "3"}


@pytest.fixture
def files(tmp_path):
    """Three images of different sizes, by colour."""
    for number, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (32 + 32 * number, 32), colour).save(tmp_path / f"{colour}.png")
    return tmp_path


def written(files, **row):
    write_jsonl(files / "p.jsonl", [{**GOOD, "images": ["red.png"], **row}])
    return files / "p.jsonl"


def test_they_are_read_from_json_and_written_again(files):
    path = written(files, teacher_images="green.png", contrast_images=["blue.png"], hints=["look", "look left"])
    (problem,) = read_problems(path)
    assert [open_image(one).width for one in (*problem.teacher_images, *problem.contrast_images)] == [64, 96]
    write_problems(files / "again.jsonl", [problem])
    ((_, row),) = read_jsonl(files / "again.jsonl")
    assert (row["teacher_images"], row["contrast_images"]) == (["green.png"], ["blue.png"])
    assert read_problems(files / "again.jsonl") == [problem]
    assert problem.hints == ("look", "look left")


def test_they_are_read_from_parquet_under_any_name(files):
    def cell(colour):
        out = io.BytesIO()
        Image.open(files / f"{colour}.png").save(out, "PNG")
        return [{"bytes": out.getvalue(), "path": None}]

    columns = {"images": [cell("red")], "crops": [cell("green")], "hints": [["a", "b"]]}
    rows = {"id": ["1"], "problem": ["how many?"], "answer": ["3"], **columns}
    pyarrow.parquet.write_table(pyarrow.table(rows), files / "t.parquet")
    with pytest.raises(ValueError, match="the column 'crops' would be passed over"):
        read_problems(files / "t.parquet")
    (problem,) = read_problems(files / "t.parquet", Reading({"teacher_images": "crops"}))
    assert open_image(problem.teacher_images[0]).size == (64, 32)
    assert problem.hints == ("a", "b")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"teacher_images": ["gone.png"]}, "image 1 of teacher_images: .*gone.png"),
        ({"contrast_images": ["green.png", "broken.png"]}, "image 2 of contrast_images: .*broken.png"),
        ({"images": [], "teacher_images": ["green.png"]}, "teacher_images, but no images that they could stand"),
        ({"teacher_images": ["https://x.org/a.png"]}, "image 1 of 'teacher_images' is an address"),
        ({"teacher_images": [5]}, "'teacher_images' must be a list of paths, image 1 is 5"),
        ({"teacher_image": ["green.png"]}, "unknown key 'teacher_image'; did you mean 'teacher_images'"),
        ({"hints": ["look", 5]}, "'hints' must be a list of texts, found int"),
        ({"hints": ["look", " "]}, "'hints' has an empty text, number 2"),
        ({"hints": {"look": "left"}}, "'hints' must be a list of texts, found dict"),
    ],
)
def test_what_is_wrong_with_them_is_found_at_the_start(files, row, reason):
    (files / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=reason):
        load_data(DataSettings(path=str(written(files, **row))))


def test_a_row_names_itself(files):
    problem = Problem("seven", (str(files / "red.png"),), "how many?", "3", teacher_images=("gone.png",))
    assert [row.id for row in find_bad_rows([problem]).bad] == ["seven"]
    row = {"id": "seven", "prompt": "how many?", "images": ["red.png"], "teacher_images": ["gone.png"]}
    with pytest.raises(ValueError, match="row seven: "):
        readable_row({**row, "images": [Image.new("RGB", (8, 8))]})
    with pytest.raises(ValueError, match="row seven: it has teacher_images, and no images"):
        readable_row({**row, "images": [], "teacher_images": [Image.new("RGB", (8, 8))]})


def test_a_prompt_counts_with_what_the_teacher_sees(files, processor):
    """The teacher's images are larger than the question's."""
    big = files / "big.png"
    Image.new("RGB", (256, 256)).save(big)
    problem = Problem("1", (str(files / "red.png"),), "how many?", "3", teacher_images=(str(big),))
    limits = {"processor": processor, "max_prompt_tokens": 60, "instruction": ""}
    own = find_bad_rows([problem], teacher=TeacherImages(), **limits)
    assert own.good == [problem]
    for shown in (TeacherImages("teacher"), TeacherImages("both"), None):
        (bad,) = find_bad_rows([problem], teacher=shown, **limits).bad
        assert bad.reason.startswith("its teacher_images: prompt of "), bad.reason


def test_every_hint_counts_as_a_part_of_the_prompt(processor):
    """Which of them is read is not known yet, and the vague one is the longest here."""
    problem = Problem("1", (), "how many?", "3", hints=("look " * 50, "3 rows"))
    for context in ("hint", "hints"):
        checked = find_bad_rows([problem], processor=processor, max_prompt_tokens=60, context=context, instruction="")
        assert checked.bad[0].reason.startswith("prompt with its hint 1 of "), checked


def test_places_that_do_not_fit_are_named(files):
    two = f"{IMAGE_MARKER} and {IMAGE_MARKER}?"
    paths = tuple(str(files / f"{colour}.png") for colour in ("red", "green"))
    problem = Problem("1", paths, two, "3", teacher_images=(str(files / "blue.png"),))
    (bad,) = find_bad_rows([problem], teacher=TeacherImages("teacher")).bad
    assert "where its 2 images stand, and the teacher would see 1 in their place" in bad.reason
    for shown in (TeacherImages(), TeacherImages("both"), None):
        assert find_bad_rows([problem], teacher=shown).good == [problem]
    # Of three in the place of two, nothing says where the third stands.
    more = replace(problem, teacher_images=(*paths, paths[0]))
    (bad,) = find_bad_rows([more], teacher=TeacherImages("teacher")).bad
    assert "where its 2 images stand, and the teacher would see 3 in their place" in bad.reason
    row = {"id": "1", "prompt": conversation(two), "images": ["a", "b"], "teacher_images": ["c", "d", "e"]}
    with pytest.raises(ValueError, match="row 1: the question says where its 2 images stand"):
        shown_to_teacher(row, "question", images="teacher")
    assert find_bad_rows([more], teacher=TeacherImages("both")).good == [more]


def test_the_trainer_has_columns_where_some_problem_fills_them(files):
    red, green = str(files / "red.png"), str(files / "green.png")
    problems = [Problem("1", (red,), "a", "3", teacher_images=(green,)), Problem("2", (red,), "b", "3")]
    rows = rl_dataset(problems)
    assert "contrast_images" not in rows.column_names
    assert [[image.width for image in row["teacher_images"]] for row in rows] == [[64], []]
    plain = rl_dataset(problems[1:])
    assert "teacher_images" not in plain.column_names


def test_columns_of_datasets_are_opened(files):
    features = datasets.Features({"prompt": datasets.Value("string"), "teacher_images": [datasets.Image()]})
    given = {"prompt": ["a"], "teacher_images": [[str(files / "green.png")]]}
    row = datasets.Dataset.from_dict(given, features=features)[0]
    read = readable_row({**row, "images": [Image.new("RGB", (8, 8))]})
    assert read["teacher_images"][0].size == (64, 32)


def test_which_images_are_seen():
    row = {"teacher_images": ["t"], "contrast_images": ["c"]}
    assert view_of(["own"], row, "question") == ["own"]
    assert view_of(["own"], row, "teacher") == ["t"]
    assert view_of(["own"], row, "both") == ["own", "t"]
    assert view_of(["own"], row, "question", "contrast_images") == ["c"]
    assert view_of(["own"], row, "both", "contrast_images") == ["own", "c"]
    assert view_of(["own"], {"teacher_images": None}, "both") is None


def test_places():
    marked = conversation(f"{IMAGE_MARKER} or {IMAGE_MARKER}?")
    assert with_places(conversation("which?"), 2, 1) == conversation("which?"), "in front, as many as there are"
    assert with_places(marked, 2, 2) == marked
    assert with_places(marked, 2, 3) == conversation(f"{IMAGE_MARKER} or {IMAGE_MARKER}?\n{IMAGE_MARKER}")
    held = [{"role": "user", "content": [{"type": "image", "image": "own"}, {"type": "text", "text": "what?"}]}]
    empty = {"type": "image"}
    assert with_places(held, 1, 1)[0]["content"] == [empty, {"type": "text", "text": "what?"}]
    assert with_places(held, 1, 2)[0]["content"] == [empty, {"type": "text", "text": "what?"}, empty]
    assert held[0]["content"][0] == {"type": "image", "image": "own"}, "the policy's prompt is not changed"
    with pytest.raises(ValueError, match="give as many, or show them beside"):
        with_places(marked, 2, 1)
