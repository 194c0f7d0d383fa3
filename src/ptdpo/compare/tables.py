"""The tables of a comparison, for the terminal, as Markdown and as JSON."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ptdpo.compare.differences import gains_over_first
from ptdpo.compare.plan import setting_name
from ptdpo.compare.run import ComparisonResult, TestedRun
from ptdpo.folders import write_json, write_text
from ptdpo.statistics import Estimate

_REPORTED = {"test accuracy": "accuracy", "all-fail groups": "all_fail", "entropy": "entropy", "KL": "kl"}
_SECONDS = "seconds per step"


@dataclass(frozen=True, slots=True)
class NamedTable:
    """A table with a title, and what a reader of its numbers should know."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    note: str = ""


def comparison_tables(result: ComparisonResult) -> Iterator[NamedTable]:
    """Yield the tables: means with deviations, paired differences to the first recipe, every seed, every source."""
    yield _means(result)
    if len(result.runs) > 1:
        yield _differences(result)
    per_seed = [
        (str(seed), f"{accuracy:.3f}", *(f"{runs[n].accuracy:.3f}" for runs in result.runs.values()))
        for n, (seed, accuracy) in enumerate(result.start.items())
    ]
    yield NamedTable("Test accuracy per seed", ("seed", "start", *result.runs), per_seed)
    sources = sorted({source for runs in result.runs.values() for run in runs for source in run.scores.by_source})
    if len(sources) > 1:
        rows = [(name, *(_of_source(runs, source) for source in sources)) for name, runs in result.runs.items()]
        yield NamedTable("Test accuracy per source", ("", *sources), rows)
    if any(result.tuning.values()):
        yield _tuning(result)


def _means(result: ComparisonResult) -> NamedTable:
    rows: list[tuple[str, ...]] = [("start", "", with_deviation(list(result.start.values())), *[""] * len(_REPORTED))]
    for name, runs in result.runs.items():
        cells = [
            with_deviation([getattr(run, field) for run in runs]) for field in (*_REPORTED.values(), "seconds_per_step")
        ]
        rows.append((name, setting_name(result.chosen[name]), *cells))
    title = f"Mean and standard deviation over seeds {', '.join(map(str, result.plan.seeds))}"
    return NamedTable(title, ("", "chosen setting", *_REPORTED, _SECONDS), rows, " ".join(result.plan.warnings))


def _differences(result: ComparisonResult) -> NamedTable:
    """Return the gains; with several comparisons also the intervals that hold together."""
    gains = gains_over_first(result)
    first, several = next(iter(result.runs)), len(gains) > 1
    accuracy, *logged = _REPORTED
    corrected = (f"{accuracy}, all {len(gains)} together",) if several else ()
    rows = [
        (
            f"{gain.name} - {first}",
            with_interval(gain.accuracy),
            *([with_interval(gain.corrected)] if several else []),
            *("-" if found is None else with_interval(found) for found in gain.logged.values()),
        )
        for gain in gains
    ]
    together = (
        f" An interval holds the true difference in 95 % of cases by itself; those of the second column hold all "
        f"{len(gains)} in 95 % (Bonferroni)."
        if several
        else ""
    )
    note = f"Intervals of the test accuracy count both seeds and questions as draws, the others seeds.{together}"
    return NamedTable(f"Paired difference to {first}, 95 % interval", ("", accuracy, *corrected, *logged), rows, note)


def _of_source(runs: Sequence[TestedRun], source: str) -> str:
    return with_deviation([run.scores.by_source[source] for run in runs if source in run.scores.by_source])


def _tuning(result: ComparisonResult) -> NamedTable:
    rows = [
        (name, setting, ", ".join(f"{score:.3f}" for score in scores), "chosen" if setting == chosen else "")
        for name, found in result.tuning.items()
        for chosen in [setting_name(result.chosen[name])]
        for setting, scores in found.items()
    ]
    seeds = ", ".join(map(str, result.plan.tuning_seeds))
    return NamedTable(f"Validation accuracy on tuning seeds {seeds}", ("", "setting", "accuracy", ""), rows)


def write_tables(folder: Path, result: ComparisonResult) -> None:
    """Write comparison.md and comparison.json, which has null for what a method does not log."""
    tables = list(comparison_tables(result))
    write_text(folder / "comparison.md", "\n\n".join(markdown_of(table) for table in tables) + "\n")
    content = {
        "seeds": result.plan.seeds,
        "tuning_seeds": result.plan.tuning_seeds,
        "overrides": result.plan.overrides,
        "start": result.start,
        "tuning": result.tuning,
        "chosen": {name: dict(setting) for name, setting in result.chosen.items()},
        "warnings": result.plan.warnings,
        "differences": {gain.name: asdict(gain) for gain in gains_over_first(result)},
        "runs": {name: [_numbers(run) for run in runs] for name, runs in result.runs.items()},
    }
    write_json(folder / "comparison.json", _known(content), indent=1)


def _numbers(run: TestedRun) -> dict[str, Any]:
    """Return a run's numbers; the answers to single questions stand in its results folder."""
    scores = {"accuracy": run.scores.accuracy, "by_source": run.scores.by_source}
    logged = {name: getattr(run, name) for name in ("all_fail", "entropy", "kl", "seconds_per_step")}
    return {"seed": run.seed, **scores, **logged}


def _known(value: Any) -> Any:
    """Return the content with null in the place of NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _known(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_known(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def markdown_of(table: NamedTable) -> str:
    """Return a table with its title and note as Markdown."""
    lines = [f"**{table.title}**", "", f"| {' | '.join(table.columns)} |", f"|{'---|' * len(table.columns)}"]
    note = ["", table.note] if table.note else []
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in table.rows), *note])


def with_interval(value: Estimate) -> str:
    """Return a mean with its interval as text."""
    return f"{value.mean:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"


def with_deviation(values: Sequence[float]) -> str:
    """Return the mean of the values that are known, and their standard deviation, as text."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "-"
    deviation = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.3f}{deviation}"
