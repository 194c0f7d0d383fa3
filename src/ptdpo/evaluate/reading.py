"""The rows of a benchmark as problems, wherever they lie."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ptdpo.data.parquet import Table, scan_table
from ptdpo.data.rows import Reading, as_text, is_missing
from ptdpo.data.scan import Read, scan_file, sorted_out, unique
from ptdpo.evaluate.benchmark import Benchmark, Hub, Local
from ptdpo.evaluate.images import ImageFinder
from ptdpo.evaluate.rows import MESSAGES, turns
from ptdpo.evaluate.source import hub_archive, hub_rows, parquet_rows
from ptdpo.records import BadRow, Problem


@dataclass(frozen=True, slots=True)
class BenchmarkRows:
    """What was found.

    Attributes:
        benchmark: its declaration; of a file of the user's own, completed by the columns found in it.
        origin: where the rows came from.
        found: how many there are.
        problems: those to ask, not checked yet.
        left_out: those that the declaration leaves out, and why.
        bad: those that cannot be read, and why.
        notes: what else a reader of the numbers should know.
    """

    benchmark: Benchmark
    origin: str
    found: int
    problems: Sequence[Problem]
    left_out: Sequence[BadRow]
    bad: Sequence[BadRow] = ()
    notes: Sequence[str] = ()


def read_rows(benchmark: Benchmark, path: Path | None, cache: Path, reading: Reading | None = None) -> BenchmarkRows:
    """Read a benchmark from its source, or from a file or folder in its place.

    Args:
        benchmark: its declaration.
        path: problems JSONL, parquet file or folder; ``None`` for its own source.
        cache: where image files are written and archives unpacked.
        reading: how the rows of a file of the user's own are read.

    Raises:
        ValueError: if the rows cannot be read, or a column is missing.
    """
    source = benchmark.source
    if path is None and isinstance(source, Hub):
        finder = ImageFinder((cache,), cache, lambda: hub_archive(source))
        return _from_table(benchmark, hub_rows(source), benchmark.origin, finder)
    if path is None:
        assert isinstance(source, Local)
        problems = source.load(cache)
        return BenchmarkRows(benchmark, benchmark.origin, len(problems), problems, [])
    if path.suffix == ".jsonl":
        return _own(benchmark, str(path), sorted_out(unique(scan_file(path, reading))))
    rows = parquet_rows(path, source.split if isinstance(source, Hub) else None, benchmark.name)
    root = path if path.is_dir() else path.parent
    finder = ImageFinder((root, cache), cache, _local_archive(root, source))
    if benchmark.reader is None and "messages" not in rows.columns:
        read = sorted_out(unique(scan_table(rows, reading, cache)))
        placed = [replace(one, images=tuple(map(finder.found, one.images))) for one in read.problems]
        return _own(benchmark, str(path), replace(read, problems=placed))
    return _from_table(benchmark, rows, str(path), finder)


def _own(benchmark: Benchmark, origin: str, read: Read) -> BenchmarkRows:
    return BenchmarkRows(benchmark, origin, len(read.problems) + len(read.bad), read.problems, [], read.bad)


def _local_archive(root: Path, source: Hub | Local) -> Callable[[], Path | None]:
    """Return how to find the zip file beside local rows: the declared one, or the only one there."""
    declared = source.archive if isinstance(source, Hub) else None
    there = [root / declared] if declared else sorted(root.glob("*.zip"))
    return lambda: there[0] if len(there) == 1 and there[0].is_file() else None


def _from_table(benchmark: Benchmark, rows: Table, origin: str, finder: ImageFinder) -> BenchmarkRows:
    if benchmark.reader is None:
        benchmark = replace(benchmark, reader=MESSAGES, instruction=None)
    reader = benchmark.reader
    assert reader is not None
    for column in reader.columns:
        if column not in rows.columns:
            raise ValueError(
                f"{benchmark.name} ({origin}): the column {column!r} is missing (found: {', '.join(rows.columns)})"
            )
    keys = _ids(benchmark.name, rows)
    problems, left_out, bad = [], [], []
    unshown = 0
    for key, (row, _) in zip(keys, rows.rows(), strict=True):
        reason = benchmark.leave_out(row)
        if reason is not None:
            left_out.append(BadRow(key, reason))
            continue
        try:
            problems.append(
                Problem(key, finder.paths(row["images"]), reader.question(row), reader.answer(row), benchmark.name)
            )
            unshown += reader is MESSAGES and any(turns(row, "system"))
        except ValueError as error:
            bad.append(BadRow(key, str(error)))
    notes = [f"{unshown} rows have a system turn, which is not shown to the model"] if unshown else []
    return BenchmarkRows(benchmark, origin, rows.count, problems, left_out, bad, notes)


def _ids(name: str, rows: Table) -> list[str]:
    """Return one id per row: the row's own; its number where it has none, and added where an id is used again."""
    if "id" not in rows.columns:
        return [f"{name}-{number}" for number in range(rows.count)]
    own = [_id(row["id"], f"{name}-{number}") for number, (row, _) in enumerate(rows.rows())]
    used = Counter(own)
    return [key if used[key] == 1 else f"{key}-row-{number}" for number, key in enumerate(own)]


def _id(value: Any, otherwise: str) -> str:
    """Return an id as text; what is missing or no id at all has the name of its row."""
    try:
        return otherwise if is_missing(value) else as_text(value, "id").strip() or otherwise
    except ValueError:
        return otherwise
