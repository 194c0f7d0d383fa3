"""Join hints to a data set, in our JSONL or in the reference's parquet schema (``prompt_with_hint``)."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet

from ptdpo.data.files import write_problems
from ptdpo.data.prompts import hint_text, marked_text, placed_text, strip_image_markers, with_hint
from ptdpo.data.rows import IMAGE_FIELDS
from ptdpo.folders import replacing
from ptdpo.records import Hint, Problem

_TEXT = datasets.Value("string")
_FEATURES = datasets.Features(
    {
        "id": _TEXT,
        "images": datasets.List(datasets.Image()),
        "problem": _TEXT,
        "answer": _TEXT,
        "source": _TEXT,
        "prompt_with_hint": _TEXT,
    }
)
# What the reference does not know: written where some problem has it, or it would be lost without a word.
_MORE = {
    "feedback": _TEXT,
    "hints": datasets.List(_TEXT),
    "teacher_images": datasets.List(datasets.Image()),
    "contrast_images": datasets.List(datasets.Image()),
}
# Rows whose images are in memory at a time.
_ROWS = 64


@dataclass(frozen=True, slots=True)
class Attached:
    """Problems with their hints, and what did not match.

    Attributes:
        problems: all of them, in order.
        hinted: how many have a hint.
        strays: ids of hints that belong to no problem.
    """

    problems: list[Problem]
    hinted: int
    strays: list[str]


def attach_hints(problems: Sequence[Problem], hints: Mapping[str, Hint]) -> Attached:
    """Return the problems with ``prompt_with_hint``: the whole question with image markers, and its hint.

    A problem without a hint keeps what it has.

    Raises:
        ValueError: if no hint belongs to a problem.
    """
    joined = [
        dataclasses.replace(p, prompt_with_hint=hinted_question(p, hints[p.id])) if p.id in hints else p
        for p in problems
    ]
    strays = sorted(set(hints) - {p.id for p in problems})
    if len(strays) == len(hints):
        raise ValueError(f"none of the {len(hints)} hints belongs to one of the {len(problems)} problems")
    return Attached(joined, sum(bool((p.prompt_with_hint or "").strip()) for p in joined), strays)


def hinted_question(problem: Problem, hint: Hint) -> str:
    """Return x^h as the reference stores it: image markers, question, hint; no instruction."""
    return marked_text(with_hint(placed_text(problem.problem), hint_text(hint)), len(problem.images))


def holds_its_question(problem: Problem) -> bool:
    """Return whether a problem's ``prompt_with_hint`` holds its question, as far as white space and markers go."""
    shown = problem.prompt_with_hint or ""
    asked, shown = ("".join(strip_image_markers(text).split()) for text in (problem.problem, shown))
    return asked in shown


def write_data(path: str | Path, problems: Sequence[Problem]) -> None:
    """Write problems in the format that the name asks for: ``.parquet`` or ``.jsonl``.

    Raises:
        ValueError: if the name ends otherwise, or an image cannot be read.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        write_parquet(path, problems)
    elif path.suffix == ".jsonl":
        write_problems(path, problems)
    else:
        raise ValueError(f"{path}: the name must end in .parquet or .jsonl")


def write_parquet(path: Path, problems: Sequence[Problem]) -> None:
    """Write the reference's schema, images inside the file; an empty ``prompt_with_hint`` means no tutoring.

    Feedback, hints and images for a teacher are further columns, where there are any. The file is replaced in one step.

    Raises:
        ValueError: if an image cannot be read; names the problem.
    """
    more = {name: feature for name, feature in _MORE.items() if any(getattr(p, name) for p in problems)}
    schema = datasets.Features({**_FEATURES, **more}).arrow_schema
    with replacing(path) as partial, pyarrow.parquet.ParquetWriter(partial, schema) as writer:
        for start in range(0, len(problems), _ROWS):
            rows = _rows(problems[start : start + _ROWS], more)
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))


def _rows(problems: Iterable[Problem], more: Collection[str]) -> list[dict[str, Any]]:
    return [
        {
            "id": p.id,
            "images": [_image(p, path) for path in p.images],
            "problem": marked_text(p.problem, len(p.images)),
            "answer": p.answer,
            "source": p.source,
            "prompt_with_hint": p.prompt_with_hint or "",
            **{name: _cell(p, name) for name in more},
        }
        for p in problems
    ]


def _cell(problem: Problem, name: str) -> Any:
    value = getattr(problem, name)
    if name in IMAGE_FIELDS:
        return [_image(problem, path) for path in value]
    return list(value) if isinstance(value, tuple) else value


def _image(problem: Problem, path: str) -> dict[str, Any]:
    try:
        return {"bytes": Path(path).read_bytes(), "path": Path(path).name}
    except OSError as error:
        raise ValueError(f"problem {problem.id}: the image {path} cannot be read ({error.strerror})") from error
