"""``ptdpo evaluate``: a model on benchmarks, runs side by side, the paper's tables."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from typer.core import TyperGroup

from ptdpo.commands import endpoint_options as options
from ptdpo.commands import reading_options as reading
from ptdpo.commands.option_ranges import check_options
from ptdpo.commands.outputs import Overwrite, refuse_foreign_folder
from ptdpo.commands.printing import out, print_table
from ptdpo.config import BadRows
from ptdpo.folders import sole_writer

if TYPE_CHECKING:
    from ptdpo.evaluate.results import Results

# vLLM takes what a request does not say from the model's generation_config.json: say it.
_PLAIN_SAMPLING = '{"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}'
_CACHE = Path.home() / ".cache" / "ptdpo"


class _RunByDefault(TyperGroup):
    """``ptdpo evaluate MODEL ...`` is short for ``ptdpo evaluate run MODEL ...``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``run`` in front unless a command is named or help is asked for."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        return super().parse_args(ctx, args)


evaluate_app = typer.Typer(cls=_RunByDefault, no_args_is_help=True)


@evaluate_app.callback()
def evaluate() -> None:
    """Ask a model questions, grade its responses, and compare runs.

    `ptdpo evaluate MODEL ...` is short for `ptdpo evaluate run MODEL ...`; see `ptdpo evaluate run --help`.

    Example: `ptdpo evaluate runs/easy_vqa --benchmarks easy-vqa --out runs/easy_vqa_results --max-new-tokens 40`
    """


@evaluate_app.command()
def run(
    model: Annotated[str, typer.Argument(help="Folder or hub id of the model; with --base-url its served name.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder for responses, settings and tables.")],
    problems: Annotated[Path | None, typer.Argument(help="A problems file (JSONL) or parquet of your own.")] = None,
    benchmarks: Annotated[str, typer.Option(help="Names, comma-separated; papo: the paper's nine.")] = "",
    data: Annotated[
        list[str] | None, typer.Option(help="NAME=PATH: read a benchmark (or papo) from there. Repeatable.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Ask only so many questions of each, drawn at random.")] = None,
    bad_rows: Annotated[str, typer.Option(help="Rows that cannot be asked: refuse or drop.")] = "refuse",
    instruction: Annotated[str | None, typer.Option(help="Instead of the standard thinking instruction.")] = None,
    columns: reading.Columns = None,
    allow_unknown: reading.AllowUnknown = False,
    samples: Annotated[int, typer.Option(help="Responses per question.")] = 1,
    max_new_tokens: Annotated[int, typer.Option(help="Longest response.")] = 4096,
    temperature: Annotated[float, typer.Option(help="Sampling temperature; 0: greedy.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Nucleus.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the random streams.")] = 0,
    grading: Annotated[str, typer.Option(help="sound, or mathruler (as published numbers).")] = "sound",
    second_opinion: Annotated[bool, typer.Option(help="Also ask math-verify; disagreement is reported.")] = False,
    revision: Annotated[str | None, typer.Option(help="Of a hub model; of an endpoint's: only recorded.")] = None,
    batch_size: Annotated[int, typer.Option(help="Questions per batch, in this process.")] = 64,
    cache: Annotated[
        Path, typer.Option(envvar="PTDPO_CACHE", help="Where images are unpacked.", show_default="~/.cache/ptdpo")
    ] = _CACHE,
    base_url: options.BaseUrl = "",
    api_key_env: options.ApiKeyEnv = "OPENAI_API_KEY",
    extra: options.Extra = _PLAIN_SAMPLING,
    concurrency: options.Concurrency = 64,
    rpm: options.RequestsPerMinute = None,
    tpm: options.TokensPerMinute = None,
    timeout: options.Timeout = 600.0,
    tries: options.Tries = 8,
    overwrite: Overwrite = False,
) -> None:
    """Answer benchmarks with a model, in this process or behind an endpoint, and grade the responses.

    The same command goes on where a run stopped; with other settings it is refused.

    Example: `ptdpo evaluate Qwen/Qwen3-VL-4B-Thinking --benchmarks papo --samples 8 --out runs/qwen3_vl_4b`
    """
    given = locals()
    from ptdpo.evaluate.run import DataChoice, evaluate
    from ptdpo.evaluate.settings import Grading, SamplingSettings
    from ptdpo.rewards import check_mode

    check_options(given, DataChoice, SamplingSettings)
    options.check_service(given)
    if not base_url:
        _refuse_unused(model, revision, extra)
    if folder.suffix == ".jsonl" or folder.is_file():
        raise ValueError(f"--out {folder}: name a folder; the responses of each benchmark are written inside it")
    names, paths = _names_and_paths(benchmarks, data or [], problems)
    makes, marks = ("table.*", "results.json"), ("settings.json",)
    refuse_foreign_folder(
        "--out", folder, "evaluate", makes=makes, marks=marks, inputs=paths.values(), overwrite=overwrite
    )
    how = reading.reading_from(columns, allow_unknown)
    choice = DataChoice(names, paths, limit, _one_of("--bad-rows", bad_rows, BadRows), instruction, how)
    sampling = SamplingSettings(
        samples, max_new_tokens, temperature, top_p, 0, seed, batch_size, extra if base_url else ""
    )
    if base_url:
        from ptdpo.chat.client import ClientSettings, Endpoint
        from ptdpo.chat.protocol import extra_fields
        from ptdpo.evaluate.endpoint import EndpointEngine

        if extra:
            extra_fields(extra)
        client = ClientSettings(concurrency, rpm, tpm, timeout, tries)
        engine = EndpointEngine(Endpoint(base_url, model, api_key_env), client, revision)
    else:
        from ptdpo.evaluate.local import LocalEngine

        engine = LocalEngine(model, revision)
    how = Grading(check_mode(grading, "--grading"), second_opinion)
    results = evaluate(engine, choice, sampling, folder, cache=cache, grading=how)
    _show(model, results)
    out.print(f"written to {folder}: table.md, results.json, table.csv, settings.json, responses by benchmark")


@evaluate_app.command()
def table(
    runs: Annotated[list[Path], typer.Argument(help="Results folders.")],
) -> None:
    """Print runs side by side in the paper's table, and write each run's tables again.

    Example: `ptdpo evaluate table runs/grpo runs/ptd_grpo`
    """
    from ptdpo.evaluate.results import read_results
    from ptdpo.evaluate.table import paper_table, write_tables

    results = {str(folder): read_results(folder) for folder in runs}
    for folder, one in results.items():
        write_tables(Path(folder), one)
        _show(folder, one)
    if len(runs) > 1:
        shown = paper_table({label: one.benchmarks for label, one in results.items()})
        print_table(shown.columns, shown.rows)


@evaluate_app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="Results folder of the run to compare with.")],
    second: Annotated[Path, typer.Argument(help="Results folder of the run the verdict is on.")],
    folder: Annotated[
        Path | None, typer.Option("--out", help="Also write comparison.md, .json and .csv there.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compare two runs question by question: difference, 95 % interval, verdict on the second.

    Example: `ptdpo evaluate compare runs/grpo runs/ptd_grpo`
    """
    from ptdpo.evaluate.compare import compare as compare_runs
    from ptdpo.evaluate.compare import write_comparison

    command = "evaluate compare"
    if folder is not None:
        refuse_foreign_folder("--out", folder, command, makes=("comparison.*",), overwrite=overwrite)
    comparison = compare_runs(first, second)
    shown = comparison.table()
    print_table(shown.columns, shown.rows)
    for note in comparison.notes:
        out.print(f"- {note}")
    if folder is not None:
        with sole_writer(folder, command):
            write_comparison(folder, comparison)


@evaluate_app.command()
def paper() -> None:
    """Print tables 1, 2 and 4 of the paper with their averages computed anew, and the cells that do not add up.

    Example: `ptdpo evaluate paper`
    """
    from ptdpo.evaluate.paper_tables import printed_tables, report

    for title, shown in printed_tables():
        out.print(f"\n[bold]{title}[/bold]")
        print_table(shown.columns, shown.rows)
    for line in report():
        out.print(line, highlight=False)


@evaluate_app.command("list")
def list_benchmarks() -> None:
    """List the benchmarks with their sources.

    Example: `ptdpo evaluate list`
    """
    from ptdpo.evaluate.benchmarks import BENCHMARKS

    rows = [(b.name, b.group, str(b.rows), b.origin) for b in BENCHMARKS.values()]
    print_table(("name", "group", "rows", "source"), rows)


def _show(label: str, results: "Results") -> None:
    from ptdpo.evaluate.averages import PAPER
    from ptdpo.evaluate.table import describe, detail_table, notes, paper_table

    if any(result.name in PAPER for result in results.benchmarks):
        shown = paper_table({label: results.benchmarks})
        print_table(shown.columns, shown.rows)
    shown = detail_table(results.benchmarks)
    print_table(shown.columns, shown.rows)
    out.print(describe(results.settings))
    for note in notes(results):
        out.print(f"- {note}")


def _refuse_unused(model: str, revision: str | None, extra: str) -> None:
    """Refuse options that a model in this process would not hear of."""
    if extra != _PLAIN_SAMPLING:
        raise ValueError(f"--extra {extra}: fields of an endpoint's request; without --base-url nothing reads them")
    if revision is not None and Path(model).is_dir():
        raise ValueError(f"--revision {revision}: {model} is a folder here, and has none; name a model of the hub")


def _names_and_paths(benchmarks: str, data: list[str], problems: Path | None) -> tuple[list[str], dict[str, Path]]:
    """Return the benchmarks to run and where some of them are read; ``papo=PATH`` gives a path to all nine."""
    from ptdpo.evaluate.run import parse_names

    paths = {name: path for text in data for name, path in _named_paths(text)}
    names = parse_names(benchmarks) if benchmarks or problems is None else []
    if problems is not None:
        names, paths = [*names, problems.stem], {**paths, problems.stem: problems}
    return names, paths


def _named_paths(text: str) -> list[tuple[str, Path]]:
    from ptdpo.evaluate.run import parse_names

    name, equals, path = text.partition("=")
    if not (re.fullmatch(r"[\w.-]+", name) and equals and path):
        raise ValueError(f"--data {text}: write NAME=PATH, such as geo3k=data/geo3k.parquet")
    return [(member, Path(path)) for member in parse_names(name)]


def _one_of(option: str, value: str, choices: Any) -> Any:
    if value not in get_args(choices):
        raise ValueError(f"{option} {value}: must be one of {', '.join(get_args(choices))}")
    return value
