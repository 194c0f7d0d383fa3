"""From a benchmark's declaration, or a file in its place, to the questions that are asked."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ptdpo.config import BadRows
from ptdpo.data.checks import describe_bad_rows, find_bad_rows
from ptdpo.data.rows import Reading
from ptdpo.evaluate.benchmark import Benchmark, Local
from ptdpo.evaluate.benchmarks import BENCHMARKS
from ptdpo.evaluate.fingerprint import data_fingerprint
from ptdpo.evaluate.reading import BenchmarkRows, read_rows
from ptdpo.records import BadRow, Problem

_DRAW = "evaluate limit"


@dataclass(frozen=True, slots=True)
class LoadedBenchmark:
    """A benchmark's questions, ready to be asked.

    Attributes:
        benchmark: its declaration, with the instruction that is used.
        origin: where the rows came from.
        found: rows there.
        problems: what is asked, image markers still in place.
        left_out: rows that are not asked and why.
        fingerprint: of ids, questions, answers and image contents.
        notes: what a reader of the numbers should know.
    """

    benchmark: Benchmark
    origin: str
    found: int
    problems: Sequence[Problem]
    left_out: Sequence[BadRow]
    fingerprint: str
    notes: Sequence[str]


def load_benchmark(
    benchmark: Benchmark,
    *,
    path: Path | None = None,
    cache: Path,
    limit: int | None = None,
    bad_rows: BadRows = "refuse",
    instruction: str | None = None,
    processor: Any = None,
    reading: Reading | None = None,
    remedy: str = "mend them, or leave them out with --bad-rows drop",
) -> LoadedBenchmark:
    """Read and check a benchmark.

    Args:
        benchmark: its declaration.
        path: problems JSONL, parquet file or folder to read instead of its source.
        cache: where image files are written and archives unpacked.
        limit: ask only so many questions, drawn by a fixed seed.
        bad_rows: what to do with rows that cannot be asked: ``refuse`` all, or ``drop`` them and say so.
        instruction: instead of the benchmark's; ignored where the prompt is in the rows.
        processor: of the model that will read them: rows that it refuses are bad ones.
        reading: how the rows of a file of the user's own are read.
        remedy: what to do about bad rows, the end of the message that refuses them.

    Raises:
        ValueError: if the rows cannot be read or, under ``refuse``, some cannot be asked; counts and lists them.
    """
    if instruction is not None and not benchmark.baked:
        benchmark = replace(benchmark, instruction=instruction)
    if benchmark.baked and path is not None and path.suffix == ".jsonl":
        raise ValueError(f"{path}: {benchmark.name} has its prompt in the rows; give its parquet file, not JSONL")
    rows = read_rows(benchmark, path, cache / benchmark.name, reading)
    benchmark = rows.benchmark
    checked = find_bad_rows(rows.problems, processor=processor, instruction=benchmark.instruction or "")
    good, bad = checked.good, [*rows.bad, *checked.bad]
    if bad and bad_rows == "refuse":
        listed = describe_bad_rows(bad, f"{benchmark.name} ({rows.origin})")
        raise ValueError(f"{listed}; {remedy}")
    if not good:
        raise ValueError(f"{benchmark.name} ({rows.origin}): no usable row of {rows.found}")
    asked = _draw(good, limit)
    notes = _notes(rows, len(bad), len(asked), len(good))
    left_out = [*rows.left_out, *bad]
    return LoadedBenchmark(benchmark, rows.origin, rows.found, asked, left_out, data_fingerprint(asked), notes)


def declare(name: str, path: Path | None) -> Benchmark:
    """Return the declaration of a name, or make one for a file of the user's own.

    Raises:
        ValueError: if the name is unknown and there is no file for it; lists the names.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    if path is None:
        raise ValueError(
            f"unknown benchmark {name!r}: choose from {', '.join(BENCHMARKS)}, papo (the paper's nine), or give "
            f"your own with --data {name}=PATH"
        )
    return Benchmark(name, name, "other", Local(str(path), lambda _: []), rows=0)


def _draw(problems: list[Problem], limit: int | None) -> list[Problem]:
    if limit is None or limit >= len(problems):
        return problems
    kept = sorted(random.Random(_DRAW).sample(range(len(problems)), limit))
    return [problems[number] for number in kept]


def _notes(rows: BenchmarkRows, bad: int, asked: int, good: int) -> list[str]:
    notes = [*rows.notes]
    if rows.benchmark.rows and rows.found != rows.benchmark.rows:
        notes.append(f"{rows.found} rows, the public source has {rows.benchmark.rows}")
    if rows.left_out:
        notes.append(f"{len(rows.left_out)} rows left out as declared")
    if bad:
        notes.append(f"{bad} bad rows left out")
    if asked < good:
        notes.append(f"{asked} of {good} questions, drawn at random")
    return notes
