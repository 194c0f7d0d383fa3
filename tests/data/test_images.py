"""One image for every reader: modes x formats x the eight orientations, and what ``open_image`` makes of each."""

import base64
import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ptdpo.chat.images import ImageLimits, data_url
from ptdpo.data.dataset import rl_dataset, sft_dataset
from ptdpo.data.images import blacken_patches, faithful_bytes, image_url, open_image, plain_rgb, stored_image
from ptdpo.data.readable import readable_row
from ptdpo.evaluate.prompts import chat_messages, prompt_parts
from ptdpo.hints.review import small_image_url
from ptdpo.records import Problem
from ptdpo.tutor.context import images_of

# How an upright picture is stored so that a reader that minds the orientation sees it upright.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
LOSSLESS = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True, "exact": True}}
FORMATS = {
    "PNG": ("1", "L", "LA", "P", "P+", "RGB", "RGB+", "RGBA", "I;16"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"),
    "WEBP": ("RGB", "RGBA"),
    "JPEG": ("L", "RGB", "CMYK"),
}
CASES = [(kind, mode) for kind, modes in FORMATS.items() for mode in modes]


def picture(mode):
    """Nothing is alike at two corners; a part of it is transparent where the mode can say so."""
    values = np.zeros((6, 9, 4), np.uint8)
    values[..., 3] = 255
    values[:3, :4] = (255, 255, 255, 255)
    values[4:, 6:] = (255, 0, 0, 255)
    values[5, 0] = (0, 0, 0, 0)
    image = Image.fromarray(values)
    if mode.startswith("I;16"):
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode == "I":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.int32) * 257)
    if mode == "F":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.float32) / 255)
    if mode == "P+":
        image = image.convert("RGB").quantize(8)
        image.info["transparency"] = image.getpixel((0, 5))
        return image
    if mode == "RGB+":
        image = image.convert("RGB")
        image.info["transparency"] = (0, 0, 0)
        return image
    return image.convert("LA" if mode == "LA" else mode) if mode != "CMYK" else image.convert("RGB").convert("CMYK")


def saved(path, mode, kind, orientation):
    image = picture(mode)
    transparency = image.info.get("transparency")
    turn = STORED[orientation]
    image = image if turn is None else image.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    extra = {} if transparency is None else {"transparency": transparency}
    image.save(path, kind, exif=exif, **LOSSLESS.get(kind, {}), **extra)
    return str(path)


def decoded(url):
    """What a server makes of a data URL if it minds neither orientation nor transparency."""
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")


def readers(paths):
    """Return what every reader sees in each file."""
    problems = [Problem(str(n), (path,), "q", "a") for n, path in enumerate(paths)]
    training, tuning = rl_dataset(problems), sft_dataset([((path,), "q", "r") for path in paths])
    return [seen(*given) for given in zip(problems, training, tuning, strict=True)]


def seen(problem, row, tuning):
    (path,) = problem.images
    with Image.open(io.BytesIO(Path(path).read_bytes())) as own:
        given = readable_row({"images": [own], "prompt": "q"})["images"][0]
    (message,) = chat_messages(prompt_parts(problem, ""))
    return {
        "training": row["images"][0],
        "teacher": images_of(readable_row(row))[0],
        "a data set of the user's own": given,
        "fine-tuning": tuning["images"][0],
        "PAPO's mask": blacken_patches(images_of(row)[0], share=0, patch=2, rng=random.Random(0)),
        "evaluation": message["content"][0]["image"],
        "hints and solutions": decoded(data_url(path)),
        "report": decoded(image_url(path)),
        "review": decoded(small_image_url(path, 512)),
    }


@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_all_readers_see_the_same_pixels_upright_whatever_the_file(tmp_path, kind, mode):
    upright = np.asarray(open_image(saved(tmp_path / f"1.{kind}", mode, kind, 1)))
    assert upright.shape == (6, 9, 3)
    assert len(np.unique(upright.reshape(-1, 3), axis=0)) > 1, "neither all black nor all white"
    if mode in ("LA", "RGBA", "P+", "RGB+"):
        assert upright[5, 0].tolist() == [255] * 3, "nothing is white"
    paths = [saved(tmp_path / f"{orientation}.{kind}", mode, kind, orientation) for orientation in STORED]
    for orientation, path, images in zip(STORED, paths, readers(paths), strict=True):
        opened = np.asarray(open_image(path))
        if kind in LOSSLESS:
            assert (opened == upright).all(), orientation
        else:
            assert np.abs(opened.astype(int) - upright).max() < 90, orientation
            assert np.abs(opened.astype(int) - upright).mean() < 8, orientation
        for reader, image in images.items():
            assert image.mode == "RGB"
            assert (np.asarray(image) == opened).all(), (reader, orientation)


@pytest.mark.parametrize(
    ("values", "kind", "grey"),
    [
        ([[0, 257, 65535]], np.uint16, [0, 1, 255]),
        ([[0, 100, 255]], np.int32, [0, 100, 255]),
        ([[0, 257, 65535]], np.int32, [0, 1, 255]),
        ([[0, 2**30, 2**31 - 1]], np.int32, [0, 128, 255]),
        ([[0.0, 0.5, 1.0]], np.float32, [0, 128, 255]),
        ([[0.0, 127.6, 255.0]], np.float32, [0, 128, 255]),
    ],
)
def test_wider_values_are_scaled_by_the_range_that_holds_them(values, kind, grey):
    image = plain_rgb(Image.fromarray(np.array(values, kind)))
    assert np.asarray(image)[0, :, 0].tolist() == grey


@pytest.mark.parametrize("values", [[[-1, 5]], [[0.0, float("nan")]], [[0.0, float("inf")]], [[0.0, 1e9]]])
def test_values_of_no_range_are_refused(tmp_path, values):
    path = tmp_path / "x.tiff"
    Image.fromarray(np.array(values, np.float32)).save(path)
    with pytest.raises(ValueError, match=r"x\.tiff: not a readable image \(its values go from"):
        open_image(path)


def test_what_is_done_is_not_done_again(tmp_path):
    path = saved(tmp_path / "6.png", "RGB+", "PNG", 6)
    once = open_image(path)
    assert once.size == (9, 6)
    assert plain_rgb(once) is once


def test_of_an_animation_the_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "PNG", "WEBP"):
        path = tmp_path / f"x.{kind}"
        frames[0].save(path, kind, save_all=True, append_images=frames[1:], **LOSSLESS.get(kind, {}))
        for reader, image in readers([str(path)])[0].items():
            assert image.getpixel((0, 0)) == (255, 0, 0), (kind, reader)


def test_files_that_are_no_images_are_named_without_a_traceback(tmp_path):
    whole = saved(tmp_path / "whole.png", "RGB", "PNG", 1)
    content = Path(whole).read_bytes()
    for name, bad in {"cut": content[:60], "text": b"no image", "empty": b""}.items():
        (tmp_path / f"{name}.png").write_bytes(bad)
        for read in (open_image, data_url, image_url):
            with pytest.raises(ValueError, match=rf"{name}\.png: not a readable image"):
                read(tmp_path / f"{name}.png")
    for read in (open_image, data_url, image_url):
        with pytest.raises(ValueError, match="no such image"):
            read(tmp_path / "absent.png")


def test_limits_of_a_server_are_kept_upright(tmp_path):
    path = saved(tmp_path / "6.png", "RGB", "PNG", 6)
    assert decoded(data_url(path, ImageLimits(pixels=54))).size == (9, 6)
    assert decoded(data_url(path, ImageLimits(pixels=30))).size == (6, 4)


def test_an_embedded_image_is_stored_once_and_mended_if_it_is_not_whole(tmp_path):
    path = stored_image(b"\x89PNG content", tmp_path)
    assert path == stored_image(b"\x89PNG content", tmp_path)
    assert path.suffix == ".png"
    path.write_bytes(b"half")
    assert stored_image(b"\x89PNG content", tmp_path).read_bytes() == b"\x89PNG content"
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == [path.name]


@pytest.mark.parametrize("read", [open_image, faithful_bytes])
def test_an_image_above_the_pixel_limit_is_refused_before_it_is_decoded(tmp_path, monkeypatch, read):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    monkeypatch.setattr("ptdpo.data.images.MOST_PIXELS", 63)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(ValueError, match=r"a\.png: .*8 x 8 pixels, more than 63"):
        read(tmp_path / "a.png")
