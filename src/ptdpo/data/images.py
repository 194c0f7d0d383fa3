"""Opening and altering images."""

import random
from pathlib import Path

from PIL import Image, ImageDraw

from ptdpo.folders import regular_file, replacing


def save_image(image: Image.Image, path: Path) -> None:
    """Save as PNG in one step, so that another process never reads half a file."""
    with replacing(path, shared=True) as partial:
        image.save(partial, format="PNG")


def open_image(path: str | Path) -> Image.Image:
    """Return the image, fully decoded, as RGB.

    Raises:
        ValueError: if the file is missing or is not a readable image.
    """
    try:
        with Image.open(regular_file(path, "image")) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image ({error})") from error


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
    masked = image.convert("RGB")
    black = ImageDraw.Draw(masked)
    for top in range(0, masked.height, patch):
        for left in range(0, masked.width, patch):
            if rng.random() < share:
                black.rectangle((left, top, left + patch - 1, top + patch - 1), fill=(0, 0, 0))
    return masked
