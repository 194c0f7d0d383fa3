"""``ptdpo hints check`` and ``ptdpo hints review``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ptdpo.commands import reading_options as reading
from ptdpo.commands.outputs import Overwrite, output_file
from ptdpo.commands.printing import out, print_table

if TYPE_CHECKING:
    from ptdpo.data.rows import Reading
    from ptdpo.hints.review import ReviewRow

_SHOWN_IDS = 20


def check(
    hints: Annotated[Path | None, typer.Argument(help="A hints file (JSONL).")] = None,
    problems: Annotated[Path | None, typer.Option(help="Their problems: JSONL, or parquet (file or folder).")] = None,
    verdicts: Annotated[Path | None, typer.Option("--out", help="Also write one verdict per hint, as JSONL.")] = None,
    columns: reading.Columns = None,
    allow_unknown: reading.AllowUnknown = False,
    ignore_question: reading.IgnoreQuestion = False,
    self_test: Annotated[bool, typer.Option(help="Instead, measure the rules on the labelled hints.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """List hints that give the answer away, expose a decisive number, name no evidence, or solve the problem.

    Exit code 0: all are fit; 1: some are rejected; 2: lines that cannot be used. Text is checked by rules alone.

    Example: `ptdpo hints check hints.jsonl --problems problems.jsonl --out verdicts.jsonl`
    """
    from ptdpo.data.files import write_jsonl

    if self_test:
        _print_self_test()
        return
    with output_file("--out", verdicts, "hints check", inputs=(hints, problems), overwrite=overwrite):
        rows, mistakes = _judged(hints, problems, reading.reading_from(columns, allow_unknown), ignore_question)
        if verdicts is not None:
            judged = ({"id": r.problem.id, "ok": r.verdict.ok, "reasons": r.verdict.reasons} for r in rows)
            write_jsonl(verdicts, judged)
    if rows:
        _print_reasons(rows)
    rejected = sum(not row.verdict.ok for row in rows)
    out.print(f"{len(rows)} hints: {len(rows) - rejected} fit, {rejected} rejected")
    _report(mistakes)
    raise typer.Exit(2 if mistakes else 1 if rejected else 0)


def review(
    hints: Annotated[Path, typer.Argument(help="A hints file (JSONL).")],
    problems: Annotated[Path, typer.Option(help="Their problems: JSONL, or parquet (file or folder).")],
    page: Annotated[Path, typer.Option("--out", help="HTML page to write.")],
    recoverability: Annotated[
        Path | None, typer.Option(help="What `hints recoverability` wrote, shown beside each hint.")
    ] = None,
    usefulness: Annotated[Path | None, typer.Option(help="What `hints usefulness` wrote, shown beside each.")] = None,
    only: Annotated[Literal["all", "fit", "rejected"], typer.Option(help="Which verdicts to show.")] = "all",
    image_size: Annotated[int, typer.Option(min=16, help="Longest side of an image, in pixels.")] = 512,
    max_mb: Annotated[float, typer.Option(min=0.1, help="Largest page, in megabytes.")] = 64.0,
    overwrite: Overwrite = False,
    columns: reading.Columns = None,
    allow_unknown: reading.AllowUnknown = False,
    ignore_question: reading.IgnoreQuestion = False,
) -> None:
    """Write one HTML page to read hints beside their images, and to accept, reject or edit them.

    The page works without a network, sorts by what was measured, and keeps marks, reasons and edits in the browser. Its
    list of them is what `ptdpo hints build --apply-review` reads.

    Example: `ptdpo hints review hints.jsonl --problems problems.jsonl --out review.html`
    """
    from ptdpo.folders import write_text
    from ptdpo.hints.review import review_page

    inputs = (hints, problems, recoverability, usefulness)
    with output_file("--out", page, "hints review", inputs=inputs, overwrite=overwrite):
        rows, mistakes = _judged(hints, problems, reading.reading_from(columns, allow_unknown), ignore_question)
        rows = _measured(rows, recoverability, usefulness)
        chosen = [row for row in rows if only == "all" or row.verdict.ok == (only == "fit")]
        written = review_page(chosen, hints.name, image_size=image_size, max_megabytes=max_mb)
        write_text(page, written.html)
    out.print(f"{len(chosen)} hints in {page} ({len(written.html) / 1e6:.1f} MB)", markup=False, highlight=False)
    _report([*mistakes, *written.unreadable])
    raise typer.Exit(2 if mistakes or written.unreadable else 0)


def _judged(
    hints: Path | None, problems: Path | None, how: "Reading", ignore_question: bool
) -> tuple[list["ReviewRow"], list[str]]:
    from ptdpo.data.scan import scan_problems, sorted_out
    from ptdpo.hints.hint_lines import read_hint_lines
    from ptdpo.hints.quality import check_hint
    from ptdpo.hints.review import ReviewRow

    if hints is None or problems is None:
        raise ValueError("both a hints file and --problems are needed (or --self-test alone)")
    found = sorted_out(scan_problems(problems, how))
    known = found.problems
    read = read_hint_lines(hints, {problem.id: problem for problem in known}, ignore_question=ignore_question)
    if not read.hints and not read.mistakes:
        raise ValueError(f"{hints}: holds no hints")
    rows = [ReviewRow(p, read.hints[p.id], check_hint(p, read.hints[p.id])) for p in known if p.id in read.hints]
    return rows, [*(f"{problems}: {row.id}: {row.reason}" for row in found.bad), *read.mistakes]


def _measured(rows: list["ReviewRow"], recoverability: Path | None, usefulness: Path | None) -> list["ReviewRow"]:
    """Return the rows with what was measured of them; not every hint needs to be."""
    from dataclasses import replace

    from ptdpo.hints.measurements import read_recoverability, read_usefulness

    guessed = read_recoverability(recoverability) if recoverability is not None else {}
    answered = read_usefulness(usefulness) if usefulness is not None else {}
    for path, found in ((recoverability, guessed), (usefulness, answered)):
        if path is not None and rows and not any(row.problem.id in found for row in rows):
            raise ValueError(f"{path}: holds none of these hints: it was measured for another file")
    return [replace(row, recovery=guessed.get(row.problem.id), compared=answered.get(row.problem.id)) for row in rows]


def _print_reasons(rows: list["ReviewRow"]) -> None:
    from rich.markup import escape

    from ptdpo.hints.quality import REASONS

    ids = {name: [row.problem.id for row in rows if name in row.verdict.names] for name in REASONS}
    table = [(name, str(len(found)), escape(_some(found))) for name, found in ids.items()]
    print_table(("reason", "hints", "ids"), table)


def _some(ids: list[str]) -> str:
    more = f" and {len(ids) - _SHOWN_IDS} more (--out lists all)" if len(ids) > _SHOWN_IDS else ""
    return ", ".join(ids[:_SHOWN_IDS]) + more


def _report(mistakes: list[str]) -> None:
    for mistake in mistakes:
        typer.echo(f"ptdpo: {mistake}", err=True)


def _print_self_test() -> None:
    from ptdpo.hints.labelled import load_labelled, score

    for part in ("development", "held_out"):
        out.print(f"{part.replace('_', '-')} part")
        rows = [
            (s.reason, str(s.labelled), *map(_share, (s.recall, s.precision, s.rejection)))
            for s in score(load_labelled(part))
        ]
        print_table(("reason", "labelled", "recall", "precision", "rejected for any reason"), rows)


def _share(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"
