"""Problems one at a time from a file of any length and kind; what cannot be used is reported and passed over."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ptdpo.data.files import parse_problem, scan_jsonl
from ptdpo.data.parquet import parquet_table, scan_table
from ptdpo.data.prompts import IMAGE_MARKER, marker_slip
from ptdpo.data.rows import Reading, as_text
from ptdpo.data.teacher_images import VIEWS
from ptdpo.folders import regular_file
from ptdpo.records import BadRow, Problem


@dataclass(frozen=True, slots=True)
class Read:
    """The problems of a file, and the rows that are none."""

    problems: list[Problem]
    bad: list[BadRow]


def scan_problems(
    path: str | Path, reading: Reading | None = None, *, images: Path | None = None, limit: int | None = None
) -> Iterator[Problem | BadRow]:
    """Yield every problem of a JSONL or parquet file, and a ``BadRow`` in place of each that cannot be used.

    Images are not opened. A row without a usable id is reported under its number.

    Args:
        path: a JSONL file, a parquet file, or a folder of parquet files.
        reading: how rows are read.
        images: where images inside parquet files are written; by default the cache of all runs.
        limit: only so many rows, the first ones; ``None`` for all.

    Raises:
        ValueError: if there is no such file, or a parquet file is broken or lacks a column.
    """
    for problem in islice(unique(scan_file(path, reading, images)), limit):
        fault = "" if isinstance(problem, BadRow) else text_fault(problem)
        yield problem.bad(fault) if fault and isinstance(problem, Problem) else problem


def read_problems(path: str | Path, reading: Reading | None = None) -> list[Problem]:
    """Return the problems of a JSONL or parquet file, none of them checked; relative image paths are from its folder.

    Raises:
        ValueError: on a row that is mistyped or has an unknown key, or an id seen twice; names the file and the row.
    """
    read = read_rows(path, reading)
    if read.bad:
        first = read.bad[0]
        raise ValueError(first.reason if first.reason.startswith(str(path)) else f"{path}: {first.id}: {first.reason}")
    return read.problems


def read_rows(path: str | Path, reading: Reading | None = None, images: Path | None = None) -> Read:
    """Return the problems of a JSONL or parquet file, none of them checked, and the rows that cannot be read.

    Raises:
        ValueError: if there is no such file, or a parquet file is broken or lacks a column.
    """
    return sorted_out(unique(scan_file(path, reading, images)))


def sorted_out(rows: Iterable[Problem | BadRow]) -> Read:
    """Return problems and bad rows apart."""
    read = Read([], [])
    for row in rows:
        if isinstance(row, BadRow):
            read.bad.append(row)
        else:
            read.problems.append(row)
    return read


def unique(rows: Iterable[Problem | BadRow]) -> Iterator[Problem | BadRow]:
    """Yield the rows, with a ``BadRow`` for every problem whose id was there before."""
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        if isinstance(row, Problem) and row.id in seen:
            where = f"by rows {seen[row.id]} and {number}, counted from 1"
            yield row.bad(f"the id {row.id!r} is used twice, {where}; the first row with it is taken")
            continue
        if isinstance(row, Problem):
            seen[row.id] = number
        yield row


def text_fault(problem: Problem) -> str:
    """Return what is wrong with the texts of a problem, empty if nothing is: it is bad whatever model reads it."""
    if not problem.problem.strip():
        return "empty question"
    if not problem.answer.strip():
        return "empty answer"
    if IMAGE_MARKER in problem.answer:
        return f"the answer holds the marker {IMAGE_MARKER}"
    images = len(problem.images)
    for name, text in (("question", problem.problem), ("prompt_with_hint", problem.prompt_with_hint or "")):
        if slip := marker_slip(text):
            return f"the {name} has {slip}"
        markers = text.count(IMAGE_MARKER)
        if markers not in (0, images):
            return f"the {name} has {markers} {IMAGE_MARKER} markers, but there are {images} images"
    alone = next((name for name in VIEWS if getattr(problem, name) and not images), None)
    return f"{alone}, but no images that they could stand beside or in the place of" if alone else ""


def count_rows(path: str | Path, limit: int | None = None) -> int:
    """Return how many rows ``scan_problems`` yields, without reading them.

    Raises:
        ValueError: if there is no such file, or a parquet file is broken.
    """
    path = Path(path)
    if path.suffix != ".jsonl":
        count = parquet_table(path).count
    else:
        with regular_file(path).open("rb") as lines:
            count = sum(bool(line.strip()) for line in lines)
    return count if limit is None else min(count, limit)


def refuse_empty(path: str | Path, reading: Reading | None = None) -> None:
    """Refuse a file in which there is nothing to do: it is likely the wrong one. Bad rows count as something.

    Raises:
        ValueError: if the file holds no row, or ``scan_problems`` cannot read it.
    """
    with TemporaryDirectory() as images:
        if next(scan_problems(path, reading, images=Path(images)), None) is None:
            raise ValueError(f"{path}: holds no problem")


def scan_file(
    path: str | Path, reading: Reading | None = None, images: Path | None = None
) -> Iterator[Problem | BadRow]:
    """Yield what each row of a JSONL or parquet file holds, unchecked; ids may repeat. See ``scan_problems``.

    Raises:
        ValueError: if there is no such file, or a parquet file is broken or lacks a column.
    """
    path, reading = Path(path), reading or Reading()
    if path.suffix == ".jsonl":
        return _jsonl(path, reading)
    return scan_table(parquet_table(path), reading, images)


def _jsonl(path: Path, reading: Reading) -> Iterator[Problem | BadRow]:
    for number, row, fault in scan_jsonl(path):
        where = f"{path}:{number}"
        if row is None:
            yield BadRow(f"line {number}", f"{where}: {fault}")
            continue
        try:
            yield parse_problem(row, where, path.parent, reading)
        except ValueError as error:
            yield BadRow(_name(row, number, reading), str(error))


def _name(row: Mapping[str, Any], number: int, reading: Reading) -> str:
    try:
        return as_text(row.get(reading.key("id")), "id").strip() or f"line {number}"
    except ValueError:
        return f"line {number}"
