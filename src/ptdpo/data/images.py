"""Opening images."""

from pathlib import Path

from PIL import Image


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
