"""Rows of training data as models read them: one image for all, each in its place."""

from collections.abc import Mapping
from typing import Any

from ptdpo.data.images import open_image, plain_rgb
from ptdpo.data.prompts import Prompt, image_places, place_images, written_parts


def readable_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose images are as ``open_image`` gives them, and whose prompt says where they stand.

    A prompt in plain text without markers is left as it is: its images stand in front.

    Args:
        row: ``images`` or ``image`` may hold pictures or paths; ``prompt`` messages or plain text.

    Raises:
        ValueError: if an image cannot be read, or the prompt has places for images, but not one for each; names the
            row.
    """
    try:
        read = dict(row)
        if row.get("images"):
            read["images"] = [_opened(image) for image in row["images"]]
        if row.get("image") is not None:
            read["image"] = _opened(row["image"])
        if "prompt" in row:
            count = len(read.get("images") or ()) or int(read.get("image") is not None)
            read["prompt"] = _placed(row["prompt"], count)
        return read
    except ValueError as error:
        raise ValueError(f"row {row.get('id', '?')}: {error}") from error


def _opened(image: Any) -> Any:
    if image is None:
        raise ValueError("one of its images is null")
    return open_image(image) if isinstance(image, str) else plain_rgb(image)


def _placed(prompt: Prompt, images: int) -> Prompt:
    if isinstance(prompt, str):
        return prompt
    if image_places(prompt):
        return place_images(prompt, images)
    contents = [message["content"] for message in prompt]
    if all(isinstance(content, str) or content is None for content in contents):
        return prompt
    return [
        {**message, "content": content if isinstance(content, str) else written_parts(content or ())}
        for message, content in zip(prompt, contents, strict=True)
    ]
