"""The rows of a benchmark as problems, wherever they lie."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import datasets

from ptdpo.data.checks import BadRow
from ptdpo.data.files import read_problems
from ptdpo.evaluate.benchmark import Benchmark, Hub, Local
from ptdpo.evaluate.images import ImageFinder
from ptdpo.evaluate.rows import MESSAGES, PROBLEM_ANSWER
from ptdpo.evaluate.source import hub_archive, hub_rows, parquet_rows
from ptdpo.records import Problem


@dataclass(frozen=True, slots=True)
class BenchmarkRows:
    """What was found.

    Attributes:
        benchmark: its declaration; of a file of the user's own, completed by the columns found in it.
        origin: where the rows came from.
        found: how many there are.
        problems: those to ask, not checked yet.
        left_out: those that the declaration leaves out, and why.
    """

    benchmark: Benchmark
    origin: str
    found: int
    problems: Sequence[Problem]
    left_out: Sequence[BadRow]


def read_rows(benchmark: Benchmark, path: Path | None, cache: Path) -> BenchmarkRows:
    """Read a benchmark from its source, or from a file or folder in its place.

    Args:
        benchmark: its declaration.
        path: problems JSONL, parquet file or folder; ``None`` for its own source.
        cache: where image files are written and archives unpacked.

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
        problems = read_problems(path)
        return BenchmarkRows(benchmark, str(path), len(problems), problems, [])
    rows = parquet_rows(path, source.split if isinstance(source, Hub) else None, benchmark.name)
    root = path if path.is_dir() else path.parent
    finder = ImageFinder((root, cache), cache, _local_archive(root, source))
    return _from_table(benchmark, rows, str(path), finder)


def _local_archive(root: Path, source: Hub | Local) -> Callable[[], Path | None]:
    """Return how to find the zip file beside local rows: the declared one, or the only one there."""
    declared = source.archive if isinstance(source, Hub) else None
    there = [root / declared] if declared else sorted(root.glob("*.zip"))
    return lambda: there[0] if len(there) == 1 and there[0].is_file() else None


def _from_table(benchmark: Benchmark, rows: datasets.Dataset, origin: str, finder: ImageFinder) -> BenchmarkRows:
    if benchmark.reader is None:
        holds_prompt = "messages" in rows.column_names
        reader = MESSAGES if holds_prompt else PROBLEM_ANSWER
        instruction = None if holds_prompt else benchmark.instruction
        benchmark = replace(benchmark, reader=reader, instruction=instruction)
    reader = benchmark.reader
    assert reader is not None
    for column in reader.columns:
        if column not in rows.column_names:
            raise ValueError(
                f"{benchmark.name} ({origin}): the column {column!r} is missing (found: {', '.join(rows.column_names)})"
            )
    rows = finder.undecoded(rows)
    problems, left_out = [], []
    for key, row in zip(_ids(benchmark.name, rows), rows, strict=True):
        assert isinstance(row, dict)
        reason = benchmark.leave_out(row)
        if reason is None:
            images = finder.paths(row["images"])
            problems.append(Problem(key, images, reader.question(row), reader.answer(row), benchmark.name))
        else:
            left_out.append(BadRow(key, reason))
    return BenchmarkRows(benchmark, origin, len(rows), problems, left_out)


def _ids(name: str, rows: datasets.Dataset) -> list[str]:
    """Return one id per row: the row's own; its number where it has none, and added where an id is used again."""
    own = [str(key) for key in rows["id"]] if "id" in rows.column_names else []
    if not own:
        return [f"{name}-{number}" for number in range(len(rows))]
    used = Counter(own)
    return [key if used[key] == 1 else f"{key}-row-{number}" for number, key in enumerate(own)]
