"""Images as data URLs: the file's own bytes, encoded anew only when the server could not take them."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ptdpo.folders import regular_file

# What OpenAI-compatible servers accept without conversion.
_ACCEPTED = {"PNG", "JPEG", "WEBP", "GIF"}
_QUALITIES = (95, 85, 70, 50)
_SHRINK = 0.8
_SMALLEST_SIDE = 28


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The largest image that a server takes: bytes of the file, and pixels."""

    bytes: int = 20_000_000
    pixels: int = 40_000_000


def data_url(path: str | Path, limits: ImageLimits | None = None) -> str:
    """Return an image file as a data URL.

    The bytes are passed as they are if they are a complete PNG, JPEG, WebP or GIF within the limits. Otherwise the
    image is scaled down to the limit on pixels, and saved as PNG, or as JPEG if that is still too large.

    Raises:
        ValueError: if the file is missing or is not a readable image.
    """
    limits = limits or ImageLimits()
    try:
        content = regular_file(path, "image").read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            kind, fits = image.format or "", len(content) <= limits.bytes
            image.load()
            if kind not in _ACCEPTED or not fits or image.width * image.height > limits.pixels:
                content, kind = _encode(image, limits)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image ({error})") from error
    return f"data:{Image.MIME[kind]};base64,{base64.b64encode(content).decode()}"


def _encode(image: Image.Image, limits: ImageLimits) -> tuple[bytes, str]:
    scale = min(1.0, (limits.pixels / (image.width * image.height)) ** 0.5)
    picture = _scaled(image.convert("RGB"), scale)
    content = _saved(picture, "PNG")
    if len(content) <= limits.bytes:
        return content, "PNG"
    while True:
        for quality in _QUALITIES:
            content = _saved(picture, "JPEG", quality=quality)
            if len(content) <= limits.bytes:
                return content, "JPEG"
        if min(picture.size) * _SHRINK < _SMALLEST_SIDE:
            raise OSError(f"does not fit into {limits.bytes} bytes at any legible size")
        picture = _scaled(picture, _SHRINK)


def _scaled(picture: Image.Image, scale: float) -> Image.Image:
    if scale >= 1:
        return picture
    size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _saved(picture: Image.Image, kind: str, **options: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, format=kind, **options)
    return out.getvalue()
