"""One image for every reader: what a file shows is decided here, by ``open_image``, and nowhere else."""

import base64
import hashlib
import io
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, UnidentifiedImageError
from PIL.ExifTags import Base

from ptdpo.folders import regular_file, replacing

# How pixels are moved so that an image with this EXIF orientation stands upright.
_UPRIGHT: Mapping[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Formats that every reader knows, and modes of which every decoder makes the same 8-bit RGB.
_COMMON_FORMATS = {"PNG", "JPEG", "WEBP", "GIF"}
_PLAIN_MODES = {"1", "L", "P", "RGB"}
# The largest value of the type that an image's values were meant for: the smallest that holds them all.
_INTEGER_TOPS = (2**8 - 1, 2**16 - 1, 2**31 - 1)
_FLOAT_TOPS = (1, 2**8 - 1, 2**16 - 1)
# What a file of a few kilobytes may claim to hold; Pillow itself only warns here.
MOST_PIXELS = 89_000_000


def open_image(path: str | Path) -> Image.Image:
    """Return the image of a file as every reader sees it, see ``plain_rgb``; of several frames the first.

    Raises:
        ValueError: if the file is missing, is not a readable image, or has more than ``MOST_PIXELS``.
    """
    # From memory: Pillow maps files of some TIFFs, and then mixes up the sides of those that lie sideways.
    file = regular_file(path, "image")
    with _readable(path):
        content = file.read_bytes()
    return open_bytes(content, path)


def open_bytes(content: bytes, name: str | Path) -> Image.Image:
    """Return the image in the bytes of a file, as ``open_image`` does.

    Args:
        content: of the file.
        name: of the image, for messages.

    Raises:
        ValueError: as ``open_image``.
    """
    with _readable(name), Image.open(io.BytesIO(content)) as image:
        _refuse_huge(image)
        return plain_rgb(image)


def plain_rgb(image: Image.Image) -> Image.Image:
    """Return an image as 8-bit RGB: upright by its EXIF orientation, transparency on white, wider values scaled.

    16-bit values are scaled by 255 / 65535. Of 32-bit integers and floats the type does not tell the range: it is the
    smallest of 8, 16 and 31 bits that holds every value, of floats [0, 1], [0, 255] or [0, 65535]. An image that is so
    already is returned itself.

    Raises:
        ValueError: if values are negative, not finite or beyond the largest range: no range can be told then.
    """
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    if image.mode == "RGB" and turn is None and not image.has_transparency_data:
        return image if type(image) is Image.Image else image.copy()
    colours = _colours(image)
    upright = colours if turn is None else colours.transpose(turn)
    # What said how to turn it, and which colour is transparent, has been done: not again.
    upright.info = {}
    return upright


def _refuse_huge(image: Image.Image) -> None:
    """Refuse an image by the size in its header, before anything is decoded."""
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, more than {MOST_PIXELS:,}: scale it down")


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(Base.Orientation, 1)


def _colours(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return _grey(image, np.asarray(image), 2**16 - 1)
    if image.mode == "I":
        return _grey(image, np.asarray(image), _top(np.asarray(image), _INTEGER_TOPS))
    if image.mode == "F":
        return _grey(image, np.asarray(image), _top(np.asarray(image), _FLOAT_TOPS))
    if not image.has_transparency_data:
        return image.convert("RGB")
    # Premultiplied grey has no way to RGBA but this.
    seen = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), seen).convert("RGB")


def _grey(image: Image.Image, values: np.ndarray, top: int) -> Image.Image:
    grey = np.rint(values.astype(np.float64) * (255 / top)).astype(np.uint8)
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey[values == key] = 255
    return Image.fromarray(grey).convert("RGB")


def _top(values: np.ndarray, tops: tuple[int, ...]) -> int:
    low, high = float(values.min()), float(values.max())
    found = next((top for top in tops if low >= 0 and high <= top), None)
    if found is None:
        raise ValueError(f"its values go from {low:g} to {high:g}, of which no range of grey can be told: save 8 bits")
    return found


@contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    """Turn whatever a decoder raises into one line that names the file."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: not a readable image (of no known format)") from error
    # Decoders raise errors of every kind on damaged files.
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: not a readable image ({said})") from error


def faithful_bytes(path: str | Path) -> tuple[bytes, str] | None:
    """Return a file's own bytes and format if every decoder makes of them what ``open_image`` does, else ``None``.

    Raises:
        ValueError: as ``open_image``.
    """
    file = regular_file(path, "image")
    with _readable(path), Image.open(io.BytesIO(content := file.read_bytes())) as image:
        _refuse_huge(image)
        image.load()
        plain = image.mode in _PLAIN_MODES and not image.has_transparency_data and _orientation(image) == 1
        one_frame = getattr(image, "n_frames", 1) == 1
        return (content, image.format) if plain and one_frame and image.format in _COMMON_FORMATS else None


def image_url(path: str | Path) -> str:
    """Return an image file as a data URL that shows the pixels of ``open_image``: its own bytes, or PNG.

    Raises:
        ValueError: as ``open_image``.
    """
    content, kind = faithful_bytes(path) or (png_bytes(open_image(path)), "PNG")
    return data_url_of(content, kind)


def data_url_of(content: bytes, kind: str) -> str:
    """Return the bytes of an image as a data URL; ``kind`` is its format by the name that Pillow gives it."""
    return f"data:{Image.MIME[kind]};base64,{base64.b64encode(content).decode()}"


def png_bytes(image: Image.Image) -> bytes:
    """Return an image as PNG."""
    out = io.BytesIO()
    image.save(out, format="PNG")
    return out.getvalue()


def save_image(image: Image.Image, path: Path) -> None:
    """Save as PNG in one step, so that another process never reads half a file."""
    with replacing(path, shared=True) as partial:
        image.save(partial, format="PNG")


def stored_image(content: bytes, folder: Path) -> Path:
    """Return the path of an embedded image in a folder of images named by their content, written there if it is not.

    Any number of processes may do so at once.

    Raises:
        OSError: if it cannot be written.
    """
    name = hashlib.sha256(content).hexdigest()[:32]
    path = folder / name[:2] / f"{name}{_suffix(content)}"
    # A disk that filled up may have left half of it there.
    if not path.is_file() or path.stat().st_size != len(content):
        with replacing(path, shared=True) as partial:
            partial.write_bytes(content)
    return path


def _suffix(content: bytes) -> str:
    return ".jpg" if content.startswith(b"\xff\xd8") else ".png" if content.startswith(b"\x89PNG") else ".img"


def blacken_patches(image: Image.Image, *, share: float, patch: int, rng: random.Random) -> Image.Image:
    """Return a copy in which each patch of a grid is black with probability ``share`` (PAPO).

    Args:
        image: any image.
        share: in [0, 1].
        patch: side of a patch in pixels; patches at the right and lower edge may be smaller.
        rng: decides which.

    Raises:
        ValueError: if ``share`` or ``patch`` is out of range.
    """
    if not 0 <= share <= 1 or patch < 1:
        raise ValueError(f"share must be in [0, 1] and patch at least 1, got {share} and {patch}")
    masked = plain_rgb(image).copy()
    black = ImageDraw.Draw(masked)
    for top in range(0, masked.height, patch):
        for left in range(0, masked.width, patch):
            if rng.random() < share:
                black.rectangle((left, top, left + patch - 1, top + patch - 1), fill=(0, 0, 0))
    return masked
