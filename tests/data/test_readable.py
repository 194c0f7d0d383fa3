"""Rows of a user's own data set: images in every form are the same pixels, and none is lost or doubled."""

import io

import datasets
import numpy as np
import pytest
from PIL import Image

from ptdpo.data.attach import hinted_question
from ptdpo.data.contexts import context_named
from ptdpo.data.dataset import readable
from ptdpo.data.images import open_image
from ptdpo.data.prompts import attach_images
from ptdpo.data.readable import readable_row
from ptdpo.records import Hint, Problem
from ptdpo.tutor.context import images_of, privileged_prompt

USER = [{"role": "user", "content": "what colour?"}]


@pytest.fixture
def picture(tmp_path):
    """A picture that lies on its side and is partly transparent."""
    image = Image.fromarray(np.random.RandomState(0).randint(0, 255, (6, 9, 4), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "p.png", exif=exif)
    return tmp_path / "p.png"


def forms(picture):
    """Return one image in every form that people's rows have it in."""
    content = picture.read_bytes()
    with Image.open(io.BytesIO(content)) as opened:
        opened.load()
    encoded = datasets.Features({"images": datasets.List(datasets.Image(decode=False))})
    stored = datasets.Dataset.from_dict({"images": [[str(picture)]]}, features=encoded)[0]["images"]
    decoded = datasets.Features({"images": datasets.List(datasets.Image())})
    return {
        "path": [str(picture)],
        "bytes": [content],
        "picture": [opened],
        "bytes in a mapping": [{"bytes": content, "path": None}],
        "path in a mapping": [{"bytes": None, "path": str(picture)}],
        "encoded": stored,
        "decoded": datasets.Dataset.from_dict({"images": [[str(picture)]]}, features=decoded)[0]["images"],
        "one path": str(picture),
        "one picture": opened,
        "one mapping": {"bytes": content},
    }


def test_an_image_in_any_form_and_any_place_is_the_same_pixels(picture):
    wanted = np.asarray(open_image(picture))
    for form, cell in forms(picture).items():
        (one,) = cell if isinstance(cell, list) else [cell]
        rows = {"column": {"prompt": USER, "images": cell}, "single": {"prompt": USER, "image": one}}
        for held in ("image", "path", "url", "base64"):
            parts = [{"type": "image", held: one, "text": None}, {"type": "text", "text": "what?", held: None}]
            rows[held] = {"prompt": [{"role": "user", "content": parts}]}
        for place, row in rows.items():
            (seen,) = images_of(readable_row(readable_row(row)))
            assert np.array_equal(np.asarray(seen), wanted), (form, place)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"img": "p.png"}, "row with the prompt 'what colour.*': it has no image, and its column 'img' looks like one"),
        ({"id": 7, "image_path": "x"}, "row 7: it has no image, and its column 'image_path'"),
        ({"images": [], "extra": b"content"}, "its column 'extra'"),
        ({"images": ["p.png"], "image": "p.png"}, "it has 'images' and 'image': which are meant"),
        ({"images": ["p.png", None]}, "one of its images is null"),
        ({"images": [{"bytes": None, "path": None}]}, "one of its images is null"),
        ({"images": ["https://example.com/a.png"]}, "is an address"),
        ({"images": [[[0, 1, 2]]]}, "neither a picture, nor a path, nor bytes, found list"),
        ({"images": [b"no image"]}, "one of its images: not a readable image"),
        (
            {"prompt": [{"role": "user", "content": "<Image>what?"}], "images": ["p.png"]},
            "has <Image>, which is no marker",
        ),
        ({"prompt": "<Image>what?"}, "has <Image>, which is no marker"),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image", "image": "p.png"}]}], "images": ["p.png"]},
            "its prompt holds 1 images itself, and its columns 1 more",
        ),
        (
            {"prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "a part of its prompt is of type 'image_url'",
        ),
    ],
)
def test_a_row_that_loses_or_doubts_an_image_is_refused_by_name(picture, monkeypatch, row, message):
    monkeypatch.chdir(picture.parent)
    with pytest.raises(ValueError, match=message):
        readable_row({"prompt": USER, **row})


@pytest.mark.parametrize("row", [{"images": None}, {"images": []}, {"image": None}, {"images": None, "image": None}])
def test_null_is_a_list_of_no_image(row):
    assert readable_row({"prompt": USER, **row})["images"] == []
    assert readable({"prompt": [USER], "images": [None]})["images"] == [[]]


def test_one_image_is_handed_on_in_the_list(picture):
    read = readable_row({"prompt": USER, "image": str(picture)})
    assert (len(read["images"]), read["image"]) == (1, None)
    assert readable_row(read)["images"][0].tobytes() == read["images"][0].tobytes()
    assert "images" not in readable_row({"prompt": USER})


def test_columns_beside_images_are_anybodys():
    row = {"prompt": USER, "answer": "a.png", "image_id": "7", "images": None, "image": None, "img": ""}
    assert readable_row(row)["prompt"] == USER


def test_a_hint_under_other_names_is_no_missing_hint():
    context = context_named("hint")
    with pytest.raises(ValueError, match="row 3: a hint is a text, or has 'look' and 'reason', found text"):
        context.text("q", {"id": 3, "hint": {"text": "look there", "look": None}}, None)
    assert context.text("q", {"hint": {"look": None, "reason": None, "text": None}}, None) is None


@pytest.mark.parametrize("context", ["hint", "solution", "sibling", "answer"])
@pytest.mark.parametrize(
    "asked", ["how many?", "in <image> how many?", [{"type": "image"}, {"type": "text", "text": "how many?"}]]
)
def test_a_marker_in_what_the_teacher_is_shown_moves_no_image(context, asked):
    said = "look at the <image> and count"
    row = {"id": "1", "prompt": [{"role": "user", "content": asked}], "images": ["I"]}
    plain = attach_images(row["prompt"], row["images"])[0]["content"]
    for hint in (said, {"look": said, "reason": said}):
        told = {"hint": hint, "solution": said, "answer": said}
        shown = attach_images(privileged_prompt({**row, **told}, context, said), row["images"])[0]["content"]
        assert [part["type"] for part in shown] == [part["type"] for part in plain]
        assert shown[-1]["text"].count("look at the image and count") >= 1


def test_a_marker_in_a_hint_moves_no_image_of_an_exported_question():
    problem = Problem("1", ("a.png",), "how many?", "3")
    text = hinted_question(problem, Hint("the <image> on the left", "count"))
    assert text == "<image>how many?\n\nHint. Look: the image on the left\nReason: count"
