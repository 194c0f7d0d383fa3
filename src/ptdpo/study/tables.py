"""The tables of a study, for the terminal and as Markdown; a study that is not finished has them of what is."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from ptdpo.compare.plan import FEWEST_SEEDS, setting_name
from ptdpo.compare.tables import NamedTable, markdown_of, with_deviation, with_interval
from ptdpo.evaluate.scoring import Scores
from ptdpo.folders import write_json, write_text
from ptdpo.study.figure import forest_chart
from ptdpo.study.results import LOGGED, Comparison, StudyResult


def study_tables(result: StudyResult) -> Iterator[NamedTable]:
    """Yield the tables: gains before training, arms, comparisons, every world, what was tuned, what is left."""
    if result.gains:
        yield _gains(result)
    yield _arms(result)
    if any(one.accuracy for one in result.comparisons):
        yield _comparisons(result)
    yield _per_world(result)
    if any(result.runs.values()):
        yield _per_source(result)
    if any(result.tuning.values()):
        yield _tuning(result)


def write_study_tables(folder: Path, result: StudyResult) -> None:
    """Write study.md, study.json and, where arms can be compared, study.svg."""
    write_text(folder / "study.md", "\n\n".join(markdown_of(table) for table in study_tables(result)) + "\n")
    worlds = {
        name: {
            str(world): {"accuracy": run.scores.accuracy, "by_source": dict(run.scores.by_source),
                         "generated": run.generated, "sampled": run.sampled, "seconds": run.seconds,
                         **{key: None if math.isnan(value) else value for key, value in run.logged.items()}}
            for world, run in runs.items()
        }
        for name, runs in result.runs.items()
    }  # fmt: skip
    start = {str(world): scores.accuracy for world, scores in result.start.items()}
    write_json(folder / "study.json", {"start": start, "runs": worlds}, indent=1)
    chart = forest_chart(result)
    if chart is not None:
        write_text(folder / "study.svg", chart)


def _gains(result: StudyResult) -> NamedTable:
    rows = [
        (
            one.shown,
            f"{one.without:.3f}",
            f"{one.accuracy:.3f}",
            with_interval(one.gain),
            f"{one.partly:.2f}, {one.wholly:.2f}",
            f"{one.divergence:.4f}",
            f"{one.kl:.3f}",
        )
        for one in result.gains
    ]
    worlds = result.gains[0].worlds
    return NamedTable(
        f"Before training: what the start models of {worlds} validation worlds gain from each context",
        (
            "context",
            "pass@1 without",
            "with",
            "gain, 95 % interval",
            "recovered: partly, wholly",
            "JSD, Top-K",
            "KL(context ‖ question)",
        ),
        rows,
        "Recovered: of the questions that fail in all samples without the context. Divergences in nats per token along "
        "failed responses to the question alone.",
    )


def _arms(result: StudyResult) -> NamedTable:
    wanted = len(result.study.settings.worlds.test)
    starts = [scores.accuracy for scores in result.start.values()]
    empty = [""] * (len(LOGGED) + 3)
    rows: list[tuple[str, ...]] = [("start", "", f"{len(starts)}", with_deviation(starts), *empty)]
    begun = [name for name in result.runs if result.runs[name] or result.tuning[name]]
    for name in begun:
        runs, setting = result.runs[name], result.chosen[name]
        cells = [[run.logged[key] for run in runs.values()] for key in LOGGED]
        rows.append(
            (
                name,
                "not chosen yet" if setting is None else setting_name(setting),
                f"{len(runs)}",
                with_deviation([run.scores.accuracy for run in runs.values()]),
                *(with_deviation(values) for values in cells),
                _mean([run.generated / 1000 for run in runs.values()]),
                _mean([run.sampled / 1000 for run in runs.values()]),
                _mean([run.seconds for run in runs.values()]),
            )
        )
    later = [name for name in result.runs if name not in begun]
    return NamedTable(
        f"Test accuracy, mean and standard deviation over the worlds that are finished, of {wanted}",
        ("", "chosen setting", "worlds", "test accuracy", *LOGGED, "thousand tokens", "sampled", "seconds"),
        rows,
        "All-fail groups, entropy and KL are means over the last 20 steps; tokens are those of responses drawn first; "
        "sampled are all, with their prompts, those too that are thrown away."
        + (f" Not begun: {', '.join(later)}." if later else ""),
    )


def _comparisons(result: StudyResult) -> NamedTable:
    made = [one for one in result.comparisons if one.accuracy is not None]
    few = any(one.worlds < FEWEST_SEEDS for one in made)
    warning = f" Fewer than {FEWEST_SEEDS} worlds say little." if few else ""
    return NamedTable(
        "Paired differences, 95 % interval",
        ("", "worlds", "test accuracy", "p", "p by Holm", *LOGGED),
        [_comparison(one) for one in made],
        "Intervals of the test accuracy count worlds and questions as draws, each by itself; the others count worlds. "
        "p by Holm is corrected for the number of comparisons of a round; of those not made yet p counts as 1."
        f"{warning}",
    )


def _comparison(one: Comparison) -> tuple[str, ...]:
    assert one.accuracy is not None
    logged = ("-" if found is None else with_interval(found) for found in one.logged.values())
    found = with_interval(one.accuracy), f"{one.p:.3g}", f"{one.corrected:.3g} of {one.planned}"
    return f"{one.arm} - {one.other}", f"{one.worlds}", *found, *logged


def _per_world(result: StudyResult) -> NamedTable:
    worlds = result.study.settings.worlds.test
    found: dict[str, Mapping[int, Scores]] = {
        name: {world: run.scores for world, run in runs.items()} for name, runs in result.runs.items() if runs
    }
    rows = [
        (name, *(f"{scores[world].accuracy:.3f}" if world in scores else "" for world in worlds))
        for name, scores in {"start": result.start, **found}.items()
    ]
    return NamedTable("Test accuracy per world", ("", *(f"world {world}" for world in worlds)), rows)


def _per_source(result: StudyResult) -> NamedTable:
    """Return accuracies by the name that a question asks about: start models know some rules in part, others not."""
    rows = []
    for name, runs in {"start": result.start, **result.runs}.items():
        scores = [one if isinstance(one, Scores) else one.scores for one in runs.values()]
        rows += [(name, scores)] if scores else []
    sources = sorted({source for _, scores in rows for one in scores for source in one.by_source})
    cells = [
        (name, *(with_deviation([one.by_source[source] for one in scores]) for source in sources))
        for name, scores in rows
    ]
    return NamedTable("Test accuracy by name", ("", *sources), cells)


def _tuning(result: StudyResult) -> NamedTable:
    worlds = result.study.settings.worlds.validation
    rows = []
    for name, found in result.tuning.items():
        setting = result.chosen[name]
        choice = None if setting is None else setting_name(setting)
        for candidate, accuracies in found.items():
            cells = [f"{accuracies[world]:.3f}" if world in accuracies else "" for world in worlds]
            mean = f"{sum(accuracies.values()) / len(accuracies):.3f}"
            rows.append((name, candidate, *cells, mean, "chosen" if candidate == choice else ""))
    return NamedTable(
        "Validation accuracy", ("", "candidate", *(f"world {world}" for world in worlds), "mean", ""), rows
    )


def _mean(values: list[float]) -> str:
    return f"{sum(values) / len(values):.0f}" if values else "-"
