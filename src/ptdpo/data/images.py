"""Opening images."""

import os
from pathlib import Path

from PIL import Image


def save_image(image: Image.Image, path: Path) -> None:
    """Save as PNG in one step, so that another process never reads half a file."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    image.save(partial, format="PNG")
    partial.replace(path)


def open_image(path: str | Path) -> Image.Image:
    """Return the image, fully decoded, as RGB.

    Raises:
        ValueError: if the file is missing or is not a readable image.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such image") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image ({error})") from error
