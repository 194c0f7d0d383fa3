"""The review page: one self-contained HTML file in which a person accepts and rejects hints."""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from ptdpo.data.images import data_url_of, open_image
from ptdpo.data.prompts import placed_text
from ptdpo.hints.quality import REASONS, HintVerdict
from ptdpo.hints.recoverability import Recovery
from ptdpo.hints.usefulness import HintedDraws
from ptdpo.records import Hint, Problem

IMAGE_SIZE = 512
MAX_MEGABYTES = 64.0
# Photographs shrink well as JPEG; drawings with few colours are smaller, and sharp, as PNG.
_FEW_COLOURS = 4096
_JPEG_QUALITY = 80


@dataclass(frozen=True, slots=True)
class ReviewRow:
    """A problem with its hint, what the rules say about it, and what was measured, if it was."""

    problem: Problem
    hint: Hint
    verdict: HintVerdict
    recovery: Recovery | None = None
    compared: HintedDraws | None = None


@dataclass(frozen=True, slots=True)
class _Shown:
    """One row as the page's script reads it; ``key`` changes with the hint, so a mark never outlives its hint."""

    id: str
    key: str
    source: str
    problem: str
    answer: str
    look: str
    reason: str
    ok: bool
    names: Sequence[str]
    reasons: Sequence[str]
    images: Sequence[int]
    guessed: Mapping[str, float] | None
    answered: Mapping[str, float] | None


class _Pictures:
    """Images as data URLs, each stored once."""

    def __init__(self, size: int, limit: float) -> None:
        self.urls: list[str] = []
        self.unreadable: list[str] = []
        self._seen: dict[str, int] = {}
        self._size, self._room = size, limit * 1e6

    def add(self, problem: Problem) -> list[int]:
        """Return the numbers of a problem's images; one that cannot be read is listed and left out."""
        return [number for path in problem.images if (number := self._number(problem, path)) is not None]

    def _number(self, problem: Problem, path: str) -> int | None:
        if path not in self._seen:
            try:
                url = small_image_url(path, self._size)
            except ValueError as error:
                self.unreadable.append(f"{problem.id}: {error}")
                return None
            self._room -= len(url)
            if self._room < 0:
                raise ValueError(
                    f"the page grows over its limit with image {len(self.urls) + 1}: choose smaller images "
                    f"(--image-size below {self._size}), show fewer hints (--only rejected), or raise --max-mb"
                )
            self._seen[path] = len(self.urls)
            self.urls.append(url)
        return self._seen[path]


@dataclass(frozen=True, slots=True)
class ReviewPage:
    """The page as HTML, and the images that could not be read, by problem id."""

    html: str
    unreadable: Sequence[str]


def review_page(
    rows: Iterable[ReviewRow], title: str, *, image_size: int = IMAGE_SIZE, max_megabytes: float = MAX_MEGABYTES
) -> ReviewPage:
    """Return the review page; everything from a model or a data set is escaped.

    Args:
        rows: problems with their hints, in the order of the page.
        title: heading; marks are kept in the browser under this name.
        image_size: longest side of an embedded image, in pixels.
        max_megabytes: most that text and images together may take.

    Raises:
        ValueError: if the page would be larger than ``max_megabytes``.
    """
    pictures = _Pictures(image_size, max_megabytes)
    shown = [asdict(_shown(row, pictures)) for row in rows]
    data = {"title": title, "names": REASONS, "rows": shown, "images": pictures.urls}
    environment = Environment(loader=PackageLoader("ptdpo.hints"), autoescape=True, undefined=StrictUndefined)
    html = environment.get_template("review.html.j2").render(title=title, data=_for_script(data))
    if len(html) > max_megabytes * 1e6:
        raise ValueError(
            f"the page takes {len(html) / 1e6:.0f} MB, over the limit of {max_megabytes:g}: "
            "show fewer hints (--only rejected) or raise --max-mb"
        )
    return ReviewPage(html, pictures.unreadable)


def _shown(row: ReviewRow, pictures: _Pictures) -> _Shown:
    key = hashlib.sha256(json.dumps([row.problem.id, row.hint.look, row.hint.reason]).encode()).hexdigest()[:16]
    return _Shown(
        id=row.problem.id,
        key=key,
        source=row.problem.source,
        problem=placed_text(row.problem.problem),
        answer=row.problem.answer,
        look=row.hint.look,
        reason=row.hint.reason,
        ok=row.verdict.ok,
        names=row.verdict.names,
        reasons=[reason.partition(": ")[2] for reason in row.verdict.reasons],
        images=pictures.add(row.problem),
        guessed=None if row.recovery is None else _guessed(row.recovery),
        answered=None if row.compared is None else _answered(row.compared),
    )


def _guessed(one: Recovery) -> dict[str, float]:
    return {"right": one.recovered, "of": one.guesses, "chance": round(one.chance, 3), "p": round(one.p_value, 4)}


def _answered(one: HintedDraws) -> dict[str, float]:
    return {"without": one.right_without, "with": one.right_with, "of": one.draws, "gain": round(one.gain, 4)}


def _for_script(data: object) -> str:
    """Return JSON that cannot end the script element it stands in: no "<", ">" or "&" is left."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text.encode("utf-8", "replace").decode("utf-8")


def small_image_url(path: str | Path, size: int) -> str:
    """Return an image as a data URL, no side longer than ``size`` pixels.

    Raises:
        ValueError: if the file is missing or is not a readable image.
    """
    image = open_image(path)
    if max(image.size) > size:
        image.thumbnail((size, size), Image.Resampling.LANCZOS)
    plain = image.getcolors(_FEW_COLOURS) is not None
    kind, settings = ("png", {"optimize": True}) if plain else ("jpeg", {"quality": _JPEG_QUALITY})
    stored = io.BytesIO()
    image.save(stored, format=kind, **settings)
    return data_url_of(stored.getvalue(), kind.upper())
