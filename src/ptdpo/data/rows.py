"""One row of a file as a problem, whatever kind of file: which keys it may have and what its cells may hold."""

import difflib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from ptdpo.records import Problem

Row = Mapping[str, Any]

# Fields that hold images: the question's, and what a teacher may see besides.
IMAGE_FIELDS = ("images", "teacher_images", "contrast_images")
FIELDS = (
    "id", "images", "problem", "answer", "source", "prompt_with_hint", "feedback", "hints", "teacher_images",
    "contrast_images",
)  # fmt: skip
# What people call these fields; the nearest name by spelling would be another.
_MEANT: Mapping[str, Sequence[str]] = {
    "problem": ("question", "prompt", "query", "text", "instruction"),
    "answer": ("label", "ground_truth", "groundtruth", "gt", "target", "solution"),
    "id": ("qid", "uid", "index", "key"),
}
# Parts of keys under which people keep images, alone or among other words; and words that say it is something else.
_IMAGE_WORD = re.compile(r"(image|img|pic|picture|photo|screenshot|video)s?", re.IGNORECASE)
_ABOUT_IMAGES = re.compile(
    "(id|size|width|height|num|number|count|has|caption|description|type|format|source|hash|shape|mode|category|token|"
    "feature)s?",
    re.IGNORECASE,
)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
# Values that are images, or say where one lies.
_IMAGE_TEXT = re.compile(
    r"data:image/|iVBORw0KGgo|/9j/|R0lGOD|UklGR|[^\n]{1,1000}\.(png|jpe?g|webp|gif|bmp|tiff?|avif|heic|mp4|webm|avi|mov)(\?[^\s]*)?$",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://|data:", re.IGNORECASE)
_ENCODED = re.compile(r"(iVBORw0KGgo|/9j/|R0lGOD|UklGR)[A-Za-z0-9+/=\s]*$")


@dataclass(frozen=True, slots=True)
class Reading:
    """How rows are read.

    Attributes:
        columns: our field -> the key or column that holds it.
        allow_unknown: pass over keys that are none of ours.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    allow_unknown: bool = False

    def __post_init__(self) -> None:
        """Refuse a field that does not exist.

        Raises:
            ValueError: names it and the fields.
        """
        for name in self.columns:
            if name not in FIELDS:
                raise ValueError(f"columns: {name!r} is no field of a problem (fields: {', '.join(FIELDS)})")

    def key(self, name: str) -> str:
        """Return the key that holds a field."""
        return self.columns.get(name, name)


def unknown_key(row: Row, reading: Reading) -> str:
    """Return what is wrong with the keys of a row; empty if nothing is.

    A key that looks like an image is never passed over where the row has no images: the row would lose it.
    """
    unknown = [key for key in row if key not in {reading.key(name) for name in FIELDS}]
    if reading.allow_unknown:
        return lost_image(row, reading)
    if not unknown:
        return ""
    meant = nearest_field(unknown[0], [name for name in FIELDS if reading.key(name) not in row])
    guess = f"; did you mean {meant!r}?" if meant else ""
    more = f" (and {', '.join(map(repr, unknown[1:4]))})" if unknown[1:] else ""
    way = "extra keys are passed over with --allow-unknown (data.allow_unknown=true)"
    return f"unknown key {unknown[0]!r}{more}{guess}; {way}"


def lost_image(row: Row, reading: Reading) -> str:
    """Return which image a row would lose: one under a key that is not read, where it has none; empty if it loses none.

    An image is what a key says that is called like one, or what is one by its looks, whatever the key.
    """
    images = reading.key("images")
    key = None if row.get(images) else lost_image_key(row, {reading.key(name) for name in FIELDS})
    if key is None:
        return ""
    return (
        f"unknown key {key!r}; did you mean {images!r}? The row has no image, and this looks like one: it is not "
        f"passed over: read it with --column images={key} (data.columns={{images: {key}}}), or take it out"
    )


def lost_image_key(row: Row, used: Collection[str]) -> str | None:
    """Return the first key beside those that are used under which an image may be; ``None`` if there is none."""
    for key, value in row.items():
        if key not in used and (is_image(value) or (looks_like_image(key) and not _holds_nothing(value))):
            return key
    return None


def looks_like_image(key: str) -> bool:
    """Return whether a key is one under which people keep images, such as ``image_path`` or ``decoded_image``."""
    words = _WORDS.findall(key)
    return any(map(_IMAGE_WORD.fullmatch, words)) and not any(map(_ABOUT_IMAGES.fullmatch, words))


def is_image(value: Any) -> bool:
    """Return whether a value is an image by its looks: bytes, base64, or a path or address that ends like one."""
    if isinstance(value, str):
        return _IMAGE_TEXT.match(value) is not None
    if isinstance(value, Mapping):
        return any(map(is_image, value.values()))
    return any(map(is_image, value)) if isinstance(value, list | tuple) else isinstance(value, bytes) and value != b""


def _holds_nothing(value: Any) -> bool:
    """Return whether there is nothing in a value, however deep: null, or empty."""
    if isinstance(value, Mapping):
        return all(map(_holds_nothing, value.values()))
    return (
        all(map(_holds_nothing, value)) if isinstance(value, list | tuple) else is_missing(value) or value in ("", b"")
    )


def refuse_no_file(path: str, where: str) -> None:
    """Refuse the path of an image that is an address, or the image itself.

    Raises:
        ValueError: says what it is and what to do; begins with ``where``.
    """
    if _ADDRESS.match(path) or _ENCODED.match(path):
        what = "an address" if _ADDRESS.match(path) else "an image in base64"
        raise ValueError(f"{where} is {what} ({path[:40]}): only files are read: save it as one, and give its path")


def nearest_field(key: str, free: Collection[str]) -> str | None:
    """Return the field that a key may have been meant for, among those that the row lacks; ``None`` if none is near."""
    if looks_like_image(key):
        near = difflib.get_close_matches(key.lower(), [name for name in IMAGE_FIELDS[1:] if name in free], cutoff=0.8)
        return near[0] if near else "images" if "images" in free else None
    for name, others in _MEANT.items():
        if name in free and key.lower() in others:
            return name
    near = difflib.get_close_matches(key.lower(), list(free), n=1, cutoff=0.6)
    return near[0] if near else None


def problem_of(
    row: Row, images: Mapping[str, Sequence[str]], key: str, where: str, reading: Reading, source: str = ""
) -> Problem:
    """Return the problem in a row.

    Args:
        row: with the fields under the keys that ``reading`` names.
        images: paths of its images, by the field of ``IMAGE_FIELDS``.
        key: its id; empty if it is to be made from its content.
        where: the row stands, for messages.
        reading: names the keys.
        source: where the row does not say.

    Raises:
        ValueError: on a mistyped field; begins with ``where``.
    """
    hinted, said = (row.get(reading.key(name)) for name in ("prompt_with_hint", "feedback"))
    return Problem(
        id=key,
        images=tuple(images["images"]),
        problem=optional_text(row.get(reading.key("problem")), reading.key("problem"), where),
        # Without an answer the row is a bad one, which the checks report with all the others.
        answer=unboxed(optional_text(row.get(reading.key("answer")), reading.key("answer"), where)),
        source=optional_text(row.get(reading.key("source")), reading.key("source"), where) or source,
        prompt_with_hint=None if hinted is None else optional_text(hinted, reading.key("prompt_with_hint"), where),
        feedback=None if said is None else optional_text(said, reading.key("feedback"), where),
        hints=_texts(row.get(reading.key("hints")), reading.key("hints"), where),
        teacher_images=tuple(images.get("teacher_images", ())),
        contrast_images=tuple(images.get("contrast_images", ())),
    )


def _texts(value: Any, name: str, where: str) -> tuple[str, ...]:
    """Return a list of texts, none of them empty; one text is a list of it, and a missing value holds none.

    Raises:
        ValueError: if it is something else; begins with ``where``.
    """
    if is_missing(value):
        return ()
    value = [value] if isinstance(value, str) else value
    odd = next((text for text in value if not isinstance(text, str)), None) if isinstance(value, list) else value
    if odd is not None:
        raise ValueError(f"{where}: the field {name!r} must be a list of texts, found {type(odd).__name__}")
    texts = tuple(as_text(text, name, where).strip() for text in value)
    if "" in texts:
        raise ValueError(f"{where}: the field {name!r} has an empty text, number {texts.index('') + 1}")
    return texts


def unboxed(answer: str) -> str:
    r"""Return an answer without the \\boxed{} that it stands in as a whole, as in ViRL39K."""
    text = answer.strip()
    if not (text.startswith("\\boxed{") and text.endswith("}")):
        return answer
    inner, depth = text[len("\\boxed{") : -1], 0
    for sign in inner:
        depth += (sign == "{") - (sign == "}")
        if depth < 0:
            return answer
    return inner if depth == 0 else answer


def as_text(value: Any, name: str, where: str = "") -> str:
    """Return a text or a number as text, as people write ids and answers; nothing else has one obvious spelling.

    Args:
        value: what a field holds.
        name: of the field.
        where: it stands, for the message; empty if whoever catches it knows.

    Raises:
        ValueError: if it is anything else, a truth value, null or a number that is not finite included, or a text that
            is not Unicode; begins with ``where``.
    """
    place = f"{where}: " if where else ""
    if isinstance(value, str):
        return _unicode(value, name, place)
    if isinstance(value, Decimal) and value.is_finite():
        return f"{value:f}"
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(value)
    found = "null" if is_missing(value) else f"{type(value).__name__}: {str(value)[:40]}"
    raise ValueError(f"{place}the field {name!r} must be a text or a number, found {found}")


def _unicode(value: str, name: str, place: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{place}the field {name!r} holds half of a character ({value[error.start]!a} at {error.start}), which no "
            "tokenizer reads"
        ) from error
    return value


def is_missing(value: Any) -> bool:
    """Return whether a value is none: null, or NaN, which is how tables write it."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def optional_text(value: Any, name: str, where: str) -> str:
    """Return ``as_text`` of a value, and an empty text for a missing one.

    Raises:
        ValueError: if it is neither missing, nor a text, nor a number; begins with ``where``.
    """
    return "" if is_missing(value) else as_text(value, name, where)


def id_text(value: Any, name: str, where: str) -> str:
    """Return an id as text.

    Raises:
        ValueError: as ``as_text``, or if it is empty.
    """
    text = as_text(value, name, where)
    if not text.strip():
        raise ValueError(f"{where}: the field {name!r} is empty")
    return text
