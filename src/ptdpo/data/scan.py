"""Problems one at a time from a file of any length; what cannot be used is reported and passed over."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ptdpo.data.checks import BadRow
from ptdpo.data.files import as_text, parse_problem, scan_jsonl
from ptdpo.records import Problem


def scan_problems(path: str | Path, image_folder: str | Path | None = None) -> Iterator[Problem | BadRow]:
    """Yield every problem of a JSONL or parquet file, and a ``BadRow`` in place of each that cannot be used.

    Images are not opened. A row without a usable id is reported under its line number.

    Args:
        path: a JSONL file, a parquet file, or a folder of parquet files.
        image_folder: where images inside parquet files are written; by default ``images`` beside the file.

    Raises:
        ValueError: if there is no such file, or a parquet file is broken or lacks a column.
    """
    path = Path(path)
    seen: set[str] = set()
    for problem in _jsonl(path) if path.suffix == ".jsonl" else _parquet(path, image_folder):
        yield _checked(problem, seen)


def refuse_empty(path: str | Path) -> None:
    """Refuse a file in which there is nothing to do: it is likely the wrong one. Bad rows count as something.

    Raises:
        ValueError: if the file holds no row, or ``scan_problems`` cannot read it.
    """
    with TemporaryDirectory() as images:
        if next(scan_problems(path, images), None) is None:
            raise ValueError(f"{path}: holds no problem")


def _checked(problem: Problem | BadRow, seen: set[str]) -> Problem | BadRow:
    if isinstance(problem, BadRow):
        return problem
    if problem.id in seen:
        return BadRow(problem.id, "this id is used twice; the first row with it is taken")
    seen.add(problem.id)
    if not problem.problem.strip():
        return BadRow(problem.id, "empty question")
    return problem if problem.answer.strip() else BadRow(problem.id, "empty answer")


def _jsonl(path: Path) -> Iterator[Problem | BadRow]:
    for number, row, fault in scan_jsonl(path):
        if row is None:
            yield BadRow(f"line {number}", fault)
            continue
        try:
            yield parse_problem(row, f"{path}:{number}", path.parent)
        except ValueError as error:
            yield BadRow(_name(row, number), str(error))


def _name(row: Mapping[str, Any], number: int) -> str:
    try:
        return as_text(row.get("id"), "id")
    except ValueError:
        return f"line {number}"


def _parquet(path: Path, image_folder: str | Path | None) -> Iterator[Problem | BadRow]:
    from ptdpo.data.parquet import scan_parquet

    yield from scan_parquet(path, image_folder or path.parent / "images")
