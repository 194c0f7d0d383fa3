"""Results as tables: the paper's row, one line per benchmark, and the same as Markdown, JSON and CSV."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ptdpo.evaluate.averages import AVERAGES, GENERAL, PAPER, VISION
from ptdpo.evaluate.benchmarks import BENCHMARKS
from ptdpo.evaluate.results import BenchmarkResult, Results, group_estimates
from ptdpo.evaluate.settings import RunSettings
from ptdpo.folders import write_text
from ptdpo.statistics import Estimate

ABSENT = "-"


@dataclass(frozen=True, slots=True)
class PrintedTable:
    """Cells ready to print."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def percent(value: float | None) -> str:
    """Return a share as the paper prints it."""
    return ABSENT if value is None else f"{100 * value:.2f}"


def with_interval(value: Estimate | None) -> str:
    """Return "mean [low, high]" in percent."""
    return ABSENT if value is None else f"{percent(value.mean)} [{percent(value.low)}, {percent(value.high)}]"


def paper_columns() -> list[tuple[str, str]]:
    """Return (key, heading) of the columns of the paper's table, averages among them."""
    general, vision, overall = AVERAGES
    titles = {name: BENCHMARKS[name].title for name in PAPER}
    return [
        *((name, titles[name]) for name in GENERAL),
        (general.key, f"AVG {general.title}"),
        *((name, titles[name]) for name in VISION),
        (vision.key, f"AVG {vision.title}"),
        (overall.key, f"AVG {overall.title}"),
    ]


def paper_table(rows: Mapping[str, Sequence[BenchmarkResult]]) -> PrintedTable:
    """Return one row per run, in percent: the paper's columns if one of the nine was run, then any others.

    What was not run is a dash, and so is an average that lacks a benchmark.
    """
    titles = {result.name: result.title for results in rows.values() for result in results}
    columns = paper_columns() if any(name in PAPER for name in titles) else []
    columns += [(name, title) for name, title in titles.items() if name not in PAPER]
    lines = []
    for label, results in rows.items():
        means: dict[str, float] = {result.name: result.accuracy.mean for result in results}
        means |= {key: average.mean for key, average in group_estimates(results).items()}
        lines.append([label, *(percent(means.get(key)) for key, _ in columns)])
    return PrintedTable(["", *(title for _, title in columns)], lines)


def detail_table(results: Sequence[BenchmarkResult]) -> PrintedTable:
    """Return one line per benchmark: avg@n with interval, pass@k, majority vote, form, length; then the averages."""
    samples = max(result.samples for result in results)
    ks = sorted({k for result in results for k in result.pass_at} - {1})
    columns = ["benchmark", "questions", f"avg@{samples} [95 %]", *(f"pass@{k}" for k in ks)]
    if samples > 2:
        columns += [f"majority@{samples}", "tied votes"]
    disputed = any(result.disputed is not None for result in results)
    columns += ["format", "mean tokens", "cut off", *(["disputed"] if disputed else []), "left out"]
    lines = [_detail(result, ks, samples > 2, disputed) for result in results]
    titles = {average.key: f"AVG {average.title}" for average in AVERAGES}
    for key, average in group_estimates(results).items():
        lines.append([titles[key], "", with_interval(average), *[""] * (len(columns) - 3)])
    return PrintedTable(columns, lines)


def _detail(result: BenchmarkResult, ks: Sequence[int], vote: bool, disputed: bool) -> list[str]:
    voted = [with_interval(result.majority), percent(result.ties)] if vote else []
    return [
        result.title,
        str(len(result.by_question)),
        with_interval(result.accuracy),
        *(percent(result.pass_at.get(k)) for k in ks),
        *voted,
        percent(result.format),
        f"{result.tokens:.1f}",
        percent(result.truncated),
        *([percent(result.disputed)] if disputed else []),
        str(len(result.data.left_out)),
    ]


def notes(results: Results) -> list[str]:
    """Return what a reader of the numbers should know."""
    told = [f"{r.title}: {note}" for r in results.benchmarks for note in r.data.notes]
    told += [f"{r.title}: {r.ungraded} responses got no verdict and count as wrong" for r in results.benchmarks
             if r.ungraded]  # fmt: skip
    told += [f"{r.title}: all samples of every question are the same text: the server may ignore the temperature"
             for r in results.benchmarks if r.alike]  # fmt: skip
    return [*told, *results.missing]


def as_json(results: Results) -> dict[str, Any]:
    """Return everything a program could want, numbers as shares of one."""
    return {
        "settings": asdict(results.settings),
        "benchmarks": {r.name: _numbers(r) for r in results.benchmarks},
        "averages": {key: asdict(value) for key, value in group_estimates(results.benchmarks).items()},
        "notes": notes(results),
    }


def _numbers(result: BenchmarkResult) -> dict[str, Any]:
    return {
        "questions": len(result.by_question),
        "samples": result.samples,
        "accuracy": asdict(result.accuracy),
        "pass_at": {str(k): value for k, value in result.pass_at.items()},
        "majority": None if result.majority is None else asdict(result.majority),
        "ties": result.ties,
        "format": result.format,
        "tokens": result.tokens,
        "truncated": result.truncated,
        "disputed": result.disputed,
        "ungraded": result.ungraded,
        "left_out": len(result.data.left_out),
    }


def as_csv(results: Results) -> str:
    """Return one line per benchmark and per average, numbers as shares of one."""
    numbers: dict[str, dict[str, Any]] = {r.name: _numbers(r) for r in results.benchmarks}
    numbers |= {f"AVG {key}": {"accuracy": asdict(v)} for key, v in group_estimates(results.benchmarks).items()}
    flat = [{"name": name, **_flattened(row)} for name, row in numbers.items()]
    return csv_text(flat)


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV; a row without a column leaves its cell empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _flattened(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}_{inner}": number for inner, number in value.items()}
        elif value is not None:
            flat[key] = value
    return flat


def as_markdown(results: Results) -> str:
    """Return both tables, the notes and the settings in words."""
    label = results.settings.model.name
    parts = [f"# {label}", describe(results.settings)]
    if any(result.name in PAPER for result in results.benchmarks):
        parts.append(paper_table({label: results.benchmarks}).markdown())
    parts.append(detail_table(results.benchmarks).markdown())
    told = notes(results)
    if told:
        parts.append("\n".join(f"- {note}" for note in told))
    return "\n\n".join(parts) + "\n"


def describe(settings: RunSettings) -> str:
    """Return the settings in one sentence."""
    s = settings.sampling
    return (
        f"{s.samples} sample{'s' if s.samples > 1 else ''} per question, temperature {s.temperature:g}, top-p "
        f"{s.top_p:g}, at most {s.max_new_tokens} tokens, seed {s.seed}; grading mode "
        f"{settings.grading.mode}; model revision {settings.model.revision}; intervals: 95 %, "
        "bootstrap over questions. Shares in percent."
    )


def write_tables(folder: Path, results: Results) -> None:
    """Write ``table.md``, ``results.json`` and ``table.csv``."""
    texts = {
        "table.md": as_markdown(results),
        "results.json": json.dumps(as_json(results), indent=2, ensure_ascii=False) + "\n",
        "table.csv": as_csv(results),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
