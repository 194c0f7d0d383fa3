"""What rows hold under other names and in other forms is read as written, or refused by row; never passed over."""

import json
from decimal import Decimal

import numpy
import pyarrow
import pyarrow.parquet
import pytest

from ptdpo.data.checks import find_bad_rows
from ptdpo.data.identity import files_hash
from ptdpo.data.rows import Reading, looks_like_image
from ptdpo.data.scan import read_problems, read_rows, scan_problems
from ptdpo.evaluate.loading import declare, load_benchmark
from ptdpo.records import BadRow

ANYTHING = Reading(allow_unknown=True)
PNG = "iVBORw0KGgoAAAANSUhEUgAA"


def jsonl(tmp_path, **row):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"id": "a", "problem": "q", "answer": "1", **row}))
    return path


def parquet(path, **columns):
    columns = {
        "problem": ["q"],
        "answer": ["1"],
        "images": pyarrow.array([[]], pyarrow.list_(pyarrow.string())),
    } | columns
    path.parent.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_0", "0.png"),
        ("image1", "anything"),
        ("decodedImage", "x"),
        ("images_b64", [PNG]),
        ("video", "clip"),
        ("figure", "figs/a.JPG"),
        ("media", ["a.webp"]),
        ("media", [{"type": "image", "url": "https://example.com/a.png?size=3"}]),
        ("content", f"data:image/png;base64,{PNG}"),
        ("picture_url", {"url": "x"}),
    ],
)
def test_no_row_loses_an_image_under_any_key_extra_keys_allowed_or_not(tmp_path, key, value):
    for path in (jsonl(tmp_path, **{key: value}), parquet(tmp_path / "p.parquet", **{key: [value]})):
        (bad,) = read_rows(path, ANYTHING).bad
        assert f"unknown key {key!r}; did you mean 'images'? The row has no image" in bad.reason


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image", None),
        ("image_path", ""),
        ("pictures", [None, ""]),
        ("image_id", "17"),
        ("num_images", 3),
        ("image_caption", "a dog."),
        ("note", "see png"),
        ("blob", b""),
    ],
)
def test_extra_keys_that_hold_no_image_are_passed_over(tmp_path, key, value):
    if value != b"":
        assert len(read_problems(jsonl(tmp_path, **{key: value}), ANYTHING)) == 1
        seen = {"images": ["0.png"], "image": "1.png"}
        assert len(read_problems(jsonl(tmp_path, **seen, **({} if key == "image" else {key: value})), ANYTHING)) == 1
    assert len(read_problems(parquet(tmp_path / "p.parquet", **{key: [value]}), ANYTHING)) == 1


def test_what_is_called_like_an_image():
    assert all(
        map(looks_like_image, ["image", "Images", "img2", "image_bytes", "decoded_image", "photoPath", "pic-url"])
    )
    assert not any(map(looks_like_image, ["imagine", "image_width", "n_images_count", "epic", "problem"]))


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("https://example.com/a.png", "an address"),
        ("file:///tmp/a.png", "an address"),
        (f"data:image/png;base64,{PNG}", "an address"),
        (PNG, "an image in base64"),
        (PNG * 1000, "an image in base64"),
    ],
)
def test_an_image_that_is_no_file_says_what_it_is_in_a_few_words(tmp_path, path, what):
    files = (jsonl(tmp_path, images=[path]), parquet(tmp_path / "p.parquet", images=[[path]]))
    for file in (*files, parquet(tmp_path / "q.parquet", images=[{"path": path}])):
        (bad,) = read_rows(file).bad
        assert f"is {what} ({path[:40]}): only files are read" in bad.reason
        assert len(bad.reason) < 300 + len(str(tmp_path))


def test_a_path_too_long_for_any_file_is_a_bad_row(tmp_path):
    path = jsonl(tmp_path, images=["a" * 5000])
    (bad,) = find_bad_rows(read_problems(path)).bad
    assert "no such image (File name too long)" in bad.reason


def test_one_image_as_a_text_is_read_from_jsonl_as_from_tables(tmp_path):
    (problem,) = read_problems(jsonl(tmp_path, image="0.png"), Reading({"images": "image"}))
    assert problem.images == (str(tmp_path / "0.png"),)


@pytest.mark.parametrize("marker", ["<Image>", "<IMAGE>", "< image >", "<images>", "<|image|>", "<image/>", "</image>"])
def test_a_marker_with_a_slip_is_refused_by_every_reader(tmp_path, marker):
    path = jsonl(tmp_path, problem=f"First {marker} then what?")
    (bad,) = scan_problems(path)
    assert isinstance(bad, BadRow)
    assert bad.reason == f"the question has {marker}, which is no marker: write <image>"
    with pytest.raises(ValueError, match="which is no marker"):
        load_benchmark(declare("p", path), path=path, cache=tmp_path)


def test_images_named_by_number_are_words(tmp_path):
    (problem,) = scan_problems(jsonl(tmp_path, problem="Is <image 1> like <img>?"))
    assert problem.id == "a"


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        (pyarrow.array([0.1], pyarrow.float32()), "0.1"),
        (pyarrow.array(numpy.array([0.1], numpy.float16)), "0.1"),
        (pyarrow.array([2.5], pyarrow.float64()), "2.5"),
        (pyarrow.array([0.1], pyarrow.float32()).dictionary_encode(), "0.1"),
        (pyarrow.array([Decimal("1.50")]), "1.50"),
        (pyarrow.array([Decimal("1E+3")], pyarrow.decimal128(10, 2)), "1000.00"),
        (pyarrow.array([7], pyarrow.int8()), "7"),
    ],
)
def test_numbers_of_tables_are_the_texts_that_people_wrote(tmp_path, cells, text):
    (problem,) = read_problems(parquet(tmp_path / "p.parquet", answer=cells, id=cells))
    assert (problem.answer, problem.id) == (text, text)


def test_rows_without_an_id_are_named_by_their_place_too(tmp_path):
    path = parquet(tmp_path / "p.parquet", problem=["q", ""], answer=["1", "2"], images=[["a.png"], ["b.png"]])
    good, bad = scan_problems(path)
    assert bad.reason == "row 1, counted from 0: empty question"
    assert good.where == "row 0, counted from 0"


def test_a_column_twice_is_refused(tmp_path):
    arrays = [pyarrow.array([text]) for text in ("q", "other", "1", "a.png")]
    table = pyarrow.Table.from_arrays(arrays, names=["problem", "problem", "answer", "image"])
    pyarrow.parquet.write_table(table, tmp_path / "p.parquet")
    with pytest.raises(ValueError, match="has the column 'problem' twice"):
        read_problems(tmp_path / "p.parquet")


def test_a_text_that_is_not_utf8_is_a_bad_row(tmp_path):
    texts = pyarrow.array([b"\xff\xfe", b"fine"])
    path = parquet(
        tmp_path / "p.parquet",
        problem=pyarrow.Array.from_buffers(pyarrow.string(), 2, texts.buffers()),
        answer=["1", "2"],
        images=[["a.png"], ["b.png"]],
    )
    read = read_rows(path)
    assert [problem.problem for problem in read.problems] == ["fine"]
    assert "row 0: the field 'problem' holds half of a character" in read.bad[0].reason


def test_bytes_and_paths_under_other_names_are_not_called_empty(tmp_path):
    (bad,) = read_rows(parquet(tmp_path / "p.parquet", images=[[{"data": b"x", "name": "n"}]])).bad
    assert bad.reason.endswith("image 1 has neither 'bytes' nor 'path' (found: data, name)")


def test_a_missing_column_suggests_the_one_that_is_meant(tmp_path):
    path = tmp_path / "p.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"problem": ["q"], "Answer": ["1"], "Images": [["a.png"]]}), path)
    with pytest.raises(ValueError, match=r"'answer' is missing .* such as \{answer: Answer\}"):
        read_problems(path)
    with pytest.raises(ValueError, match=r"'images' is missing .* such as \{images: Images\}"):
        read_problems(path, Reading({"answer": "Answer"}))


@pytest.mark.parametrize(
    "names",
    [
        ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"),
        ("data/train.parquet", "data/validation.parquet"),
        ("train/0000.parquet", "train/0001.parquet", "test/0000.parquet"),
    ],
)
def test_a_folder_of_several_splits_is_refused_and_a_pattern_names_one(tmp_path, names):
    folder = tmp_path / "set"
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        parquet(folder / name, problem=[f"q{number}"])
    with pytest.raises(ValueError, match=r"holds the splits (test, train|train, validation): name the files of one"):
        read_problems(folder)
    with pytest.raises(ValueError, match="holds the splits"):
        load_benchmark(declare("set", folder), path=folder, cache=tmp_path)
    pattern = folder / (names[0].rpartition("/")[0]) / "train*.parquet"
    if names[0].startswith("train/"):
        pattern = folder / "train" / "*.parquet"
    trained = [problem.problem for problem in read_problems(pattern)]
    assert trained == [f"q{n}" for n, name in enumerate(names) if "train" in name]
    asked = load_benchmark(declare("set", pattern), path=pattern, cache=tmp_path)
    assert [problem.problem for problem in asked.problems] == trained
    before = files_hash([pattern])
    parquet(folder / names[0], problem=["changed"])
    assert files_hash([pattern]) != before, "a resume notices a file behind a pattern"


def test_a_file_of_another_kind_says_that_its_name_was_not_known(tmp_path):
    (tmp_path / "p.json").write_text("[]")
    with pytest.raises(
        ValueError, match=r"p\.json: its name does not end in \.jsonl, and it is not readable as parquet"
    ):
        read_problems(tmp_path / "p.json")
