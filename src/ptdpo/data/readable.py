"""Rows of training data as models read them: one image for all, each in its place."""

from collections.abc import Mapping
from typing import Any

from ptdpo.data.images import open_bytes, open_image, plain_rgb
from ptdpo.data.prompts import Prompt, image_places, marker_slip, place_images, written_parts
from ptdpo.data.rows import lost_image_key, refuse_no_file
from ptdpo.data.teacher_images import VIEWS

# Columns that are read, whatever they hold; any other may not hold the image that a row lacks.
_READ = frozenset(
    ("id", "source", "prompt", "answer", "hint", "hints", "prompt_with_hint", "solution", "feedback", "instruction")
)
# Where a part of a message keeps its image, in the forms of transformers' chat templates.
_HELD = ("image", "path", "url", "base64")
_SHOWN = 60


def readable_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose ``images`` are as ``open_image`` gives them, and whose prompt says where they stand.

    A row with a column for images has a list of them, of none if the column says null; ``image`` is handed on in it.
    A prompt in text without markers is left as it is: its images stand in front.

    Args:
        row: ``images`` or ``image``, or the parts of the prompt, may hold pictures, paths, bytes, or mappings with
            ``bytes`` or ``path``; ``prompt`` messages or plain text.

    Raises:
        ValueError: if an image cannot be read, stands in two places or in a column that is not read, a part of the
            prompt is neither text nor an image, or the prompt has places for images, but not one for each; names the
            row.
    """
    try:
        read = dict(row)
        if not _is_nothing(row.get("images")):
            read["images"] = _images(row["images"])
        if row.get("image") is not None:
            read["image"] = _opened(row["image"])
        for name in VIEWS:
            if not _is_nothing(row.get(name)):
                read[name] = _images(row[name], f"its {name}")
        given = len(read.get("images") or ()) or int(read.get("image") is not None)
        inside = 0
        if "prompt" in row:
            read["prompt"], inside = _with_images(row["prompt"])
            read["prompt"] = _placed(read["prompt"], given)
        _refuse_doubt(read, given, inside)
        _refuse_views_alone(read, given or inside)
        if "images" in read or "image" in read:
            # A batch of nulls would be one of images to TRL, whose processor then finds none: without any it is lists.
            single = read.get("image")
            read["images"] = read.get("images") or ([] if single is None else [single])
            if "image" in read:
                read["image"] = None
        return read
    except ValueError as error:
        raise ValueError(f"row {_name(row)}: {error}") from error


def _name(row: Mapping[str, Any]) -> str:
    """Return the id of a row, or how its prompt begins."""
    if row.get("id") is not None:
        return str(row["id"])
    prompt = row.get("prompt", "?")
    said = prompt if isinstance(prompt, str) else " ".join(str(message.get("content")) for message in prompt or ())
    return f"with the prompt {said if len(said) <= _SHOWN else said[:_SHOWN] + '...'!r}"


def _is_nothing(images: Any) -> bool:
    return images is None or (isinstance(images, list | tuple) and not images)


def _images(cell: Any, which: str = "its images") -> list[Any]:
    """Return the images of a cell that holds a list of them, or one."""
    return [_opened(image, which) for image in (cell if isinstance(cell, list | tuple) else [cell])]


def _opened(image: Any, which: str = "its images") -> Any:
    if isinstance(image, Mapping):
        image = image.get("bytes") or image.get("path")
    if image is None:
        raise ValueError(f"one of {which} is null")
    if isinstance(image, bytes):
        return open_bytes(image, f"one of {which}")
    if isinstance(image, str):
        refuse_no_file(image, f"one of {which}")
        return open_image(image)
    if not hasattr(image, "getexif"):
        raise ValueError(f"one of {which} is neither a picture, nor a path, nor bytes, found {type(image).__name__}")
    return plain_rgb(image)


def _with_images(prompt: Prompt) -> tuple[Prompt, int]:
    """Return a prompt whose parts hold opened images, and how many."""
    if isinstance(prompt, str):
        return prompt, 0
    messages, count = [], 0
    for message in prompt:
        content = message["content"]
        if isinstance(content, list):
            content = [_with_image(part) for part in written_parts(content)]
            count += sum("image" in part for part in content)
        messages.append({**message, "content": content})
    return messages, count


def _with_image(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind == "text":
        return part
    if kind != "image":
        raise ValueError(
            f"a part of its prompt is of type {kind!r}: parts are text or image, and images stand in the column "
            "'images' or in their part, under 'image'"
        )
    held = next((name for name in _HELD if name in part), None)
    return part if held is None else {"type": "image", "image": _opened(part[held])}


def _placed(prompt: Prompt, images: int) -> Prompt:
    if isinstance(prompt, str):
        _refuse_slip(prompt)
        return prompt
    for message in prompt:
        for part in written_parts(message["content"]) if message["role"] == "user" else ():
            _refuse_slip(part.get("text") or "")
    if image_places(prompt):
        return place_images(prompt, images)
    return prompt


def _refuse_slip(text: str) -> None:
    if slip := marker_slip(text):
        raise ValueError(f"its prompt has {slip}")


def _refuse_views_alone(row: Mapping[str, Any], images: int) -> None:
    """Refuse images for the teacher where the question has none: processes would wait for a vision tower in vain."""
    alone = next((name for name in VIEWS if not _is_nothing(row.get(name)) and not images), None)
    if alone is not None:
        raise ValueError(f"it has {alone}, and no images that they could stand beside or in the place of")


def _refuse_doubt(row: Mapping[str, Any], given: int, inside: int) -> None:
    """Refuse a row whose images stand in two places, or in one that is not read."""
    if not _is_nothing(row.get("images")) and row.get("image") is not None:
        raise ValueError("it has 'images' and 'image': which are meant? Leave one of the columns out")
    if given and inside:
        raise ValueError(f"its prompt holds {inside} images itself, and its columns {given} more: which are meant?")
    if not given and not inside and (key := lost_image_key(row, _READ | {"images", "image", *VIEWS})):
        raise ValueError(
            f"it has no image, and its column {key!r} looks like one, which is not read: call it 'images' or 'image', "
            "or take it out"
        )
