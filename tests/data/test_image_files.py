"""Files of rarer kinds: every reader sees the same, and what cannot be read is refused by name."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ptdpo.data.images import open_image
from tests.data.test_images import readers

RED, BLUE = Image.new("RGB", (9, 6), "red"), Image.new("RGB", (9, 6), "blue")
CLEAR = Image.new("RGBA", (9, 6), (0, 0, 0, 0))
GREY, BLACK, WHITE = (128, 128, 128), (0, 0, 0), (255, 255, 255)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(depth, colour, row, *extra):
    """A PNG of 8 x 8 pixels in a depth that Pillow does not write."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress((b"\0" + row) * 8))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*one) for one in extra) + body + chunk(b"IEND", b"")


def saved(image, kind, **settings):
    out = io.BytesIO()
    image.save(out, kind, **settings)
    return out.getvalue()


def frames(first, kind, **settings):
    return saved(first, kind, save_all=True, append_images=[BLUE.convert(first.mode)], **settings)


# The first pixel that each must show.
FILES = {
    "16-bit grey": (png(16, 0, struct.pack(">8H", *[32896] * 8)), GREY),
    "16-bit grey, clear": (png(16, 0, struct.pack(">8H", *[300] * 8), (b"tRNS", struct.pack(">H", 300))), WHITE),
    "16-bit grey and alpha": (png(16, 4, struct.pack(">16H", *[0, 0] * 8)), WHITE),
    "16-bit colour": (png(16, 2, struct.pack(">24H", *[65535, 0, 0] * 8)), (255, 0, 0)),
    "16-bit colour and alpha": (png(16, 6, struct.pack(">32H", *[0, 0, 0, 0] * 8)), WHITE),
    "1 bit, clear": (png(1, 0, b"\0", (b"tRNS", b"\0\0")), WHITE),
    "2 bits": (png(2, 0, b"\0\0"), BLACK),
    "palette, clear": (png(4, 3, b"\0" * 4, (b"PLTE", bytes(6)), (b"tRNS", b"\0")), WHITE),
    "moving GIF": (frames(RED.quantize(4), "GIF"), (255, 0, 0)),
    "moving WebP, clear": (frames(CLEAR, "WEBP", lossless=True), WHITE),
    "moving PNG": (frames(RED, "PNG"), (255, 0, 0)),
    "moving PNG with a still": (frames(RED, "PNG", default_image=True), (255, 0, 0)),
    "several photographs": (frames(RED, "MPO", quality=100), (254, 0, 0)),
    "several pages": (frames(RED, "TIFF"), (255, 0, 0)),
    "CMYK photograph": (saved(RED.convert("CMYK"), "JPEG", quality=100), (255, 0, 0)),
    "YCbCr": (saved(RED.convert("YCbCr"), "TIFF"), (254, 0, 0)),
    "float": (saved(Image.fromarray(np.full((6, 9), 0.5, np.float32)), "TIFF"), GREY),
    "portable 16 bit": (saved(Image.fromarray(np.full((6, 9), 32896, np.uint16)), "PPM"), GREY),
    "Targa, clear": (saved(CLEAR, "TGA"), WHITE),
    "bitmap": (saved(RED, "BMP"), (255, 0, 0)),
}


@pytest.mark.parametrize("name", FILES)
def test_all_readers_see_the_first_frame_on_white_in_8_bits(tmp_path, name):
    content, wanted = FILES[name]
    path = tmp_path / "image.png"
    path.write_bytes(content)
    image = open_image(path)
    assert image.mode == "RGB"
    assert np.abs(np.array(image.getpixel((0, 0))) - wanted).max() <= 1
    (seen,) = readers([str(path)])
    for reader, other in seen.items():
        assert np.array_equal(np.asarray(other), np.asarray(image)), reader


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>404</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n",
        b"\0\0\0\x18ftypheic" + bytes(100),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        saved(RED, "PNG")[:-40],
        saved(RED.resize((99, 99)), "JPEG")[:-400],
        png(16, 0, b"\0" * 3),
    ],
    ids=["empty", "page", "pointer", "HEIC", "SVG", "cut PNG", "cut JPEG", "rows too short"],
)
def test_what_is_no_whole_image_is_refused_by_name(tmp_path, content):
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"image\.png: not a readable image \("):
        open_image(path)
