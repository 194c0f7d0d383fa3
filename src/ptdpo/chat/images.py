"""Images as data URLs: the file's own bytes, encoded anew only when the server could not take them."""

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ptdpo.data.images import data_url_of, faithful_bytes, open_image, png_bytes
from ptdpo.values import Count, check_limits

_QUALITIES = (95, 85, 70, 50)
_SHRINK = 0.8
_SMALLEST_SIDE = 28


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The largest image that a server takes: bytes of the file, and pixels."""

    bytes: Count = 20_000_000
    pixels: Count = 40_000_000

    def __post_init__(self) -> None:
        """Refuse a limit that no image keeps.

        Raises:
            ValueError: names it.
        """
        check_limits(self)


def data_url(path: str | Path, limits: ImageLimits | None = None) -> str:
    """Return an image file as a data URL that shows the pixels of ``open_image``.

    The bytes are passed as they are if a server makes the same of them and they are within the limits. Otherwise the
    image is scaled down to the limit on pixels, and saved as PNG, or as JPEG if that is still too large.

    Raises:
        ValueError: if the file is missing or is not a readable image, or fits into no limit.
    """
    limits = limits or ImageLimits()
    image, own = open_image(path), faithful_bytes(path)
    if own is None or len(own[0]) > limits.bytes or image.width * image.height > limits.pixels:
        own = _encode(image, limits, path)
    return data_url_of(*own)


def _encode(image: Image.Image, limits: ImageLimits, path: str | Path) -> tuple[bytes, str]:
    scale = min(1.0, (limits.pixels / (image.width * image.height)) ** 0.5)
    picture = _scaled(image, scale)
    content = png_bytes(picture)
    if len(content) <= limits.bytes:
        return content, "PNG"
    while True:
        for quality in _QUALITIES:
            content = _jpeg(picture, quality)
            if len(content) <= limits.bytes:
                return content, "JPEG"
        if min(picture.size) * _SHRINK < _SMALLEST_SIDE:
            raise ValueError(f"{path}: does not fit into {limits.bytes} bytes at any legible size")
        picture = _scaled(picture, _SHRINK)


def _scaled(picture: Image.Image, scale: float) -> Image.Image:
    if scale >= 1:
        return picture
    size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, format="JPEG", quality=quality)
    return out.getvalue()
