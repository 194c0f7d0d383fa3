"""Rows with their prompt in messages: text or parts, one question, ids of any kind."""

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from ptdpo.data.images import open_image
from ptdpo.evaluate.loading import declare, load_benchmark


def user(content):
    return {"role": "user", "content": content}


RIGHT = {"role": "assistant", "content": "3"}


def loaded(tmp_path, *rows, bad_rows="drop", **columns):
    path = tmp_path / "own.parquet"
    columns = {"messages": list(rows), "images": [[] for _ in rows], **columns}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return load_benchmark(declare("own", path), path=path, cache=tmp_path, bad_rows=bad_rows)


def test_content_in_parts_is_the_text_with_a_marker_for_each_image(tmp_path):
    parts = [{"type": "text", "text": "First "}, {"type": "image", "text": None}, {"type": "text", "text": " what?"}]
    row = [user(parts), {"role": "assistant", "content": [{"type": "text", "text": "\\boxed{3}"}]}]
    (bad,) = loaded(tmp_path, row, [user(parts[:1]), {"role": "assistant", "content": parts[:1]}]).left_out
    assert bad.reason == "the question has 1 <image> markers, but there are 0 images"
    read = loaded(tmp_path, [user(parts[:1] + parts[2:]), row[1]])
    assert [(one.problem, one.answer) for one in read.problems] == [("First  what?", "3")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([user("q"), RIGHT, user("and then?"), RIGHT], "2 turns of the user"),
        ([user([{"type": "video", "text": None}])], "a part of a turn must be text or an image, found video"),
        ("[{'role': 'user'}]", "expected a list of turns"),
        ([user("q")], "empty answer"),
        (None, "empty question"),
    ],
)
def test_what_is_no_single_question_is_a_bad_row(tmp_path, row, reason):
    with pytest.raises(ValueError, match=f"own-0 .*{reason}"):
        loaded(tmp_path, row, bad_rows="refuse")


def test_a_system_turn_is_not_shown_and_that_is_said(tmp_path):
    read = loaded(tmp_path, [{"role": "system", "content": "Be brief."}, user("q"), RIGHT])
    assert read.notes == ["1 rows have a system turn, which is not shown to the model"]


def test_rows_without_an_id_have_the_names_of_their_rows(tmp_path):
    rows = [[user(f"q{n}"), RIGHT] for n in range(4)]
    read = loaded(tmp_path, *rows, id=pyarrow.array(["a", None, None, " "]))
    assert [problem.id for problem in read.problems] == ["a", "own-1", "own-2", "own-3"]
    read = loaded(tmp_path, *rows, id=pyarrow.array([1.0, 2.0, None, float("nan")]))
    assert [problem.id for problem in read.problems] == ["1.0", "2.0", "own-2", "own-3"]


def test_a_relative_path_is_from_the_folder_of_the_file_not_of_the_command(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    for folder, colour in ((tmp_path, "red"), (tmp_path / "here", "blue")):
        Image.new("RGB", (8, 8), colour).save(folder / "0.png")
    monkeypatch.chdir(tmp_path / "here")
    for columns in ({"image": ["0.png"]}, {"image": [{"bytes": None, "path": "0.png"}]}):
        (problem,) = loaded(tmp_path, [user("<image>q"), RIGHT], images=columns["image"]).problems
        assert open_image(problem.images[0]).getpixel((0, 0)) == (255, 0, 0)
