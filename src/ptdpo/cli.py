"""The commands: parsing and printing only. Exit code 0 on success, 2 on a user's mistake, in one line."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Privileged tutoring distillation for RLVR: post-train vision-language models when most rollouts fail.",
)
data_app = typer.Typer(no_args_is_help=True, help="Make and check data, and the tiny model of the demo.")
app.add_typer(data_app, name="data")
out = Console()


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Decides the hidden rules, the data and every random draw.")] = 0,
    folder: Annotated[Path, typer.Option("--out", help="Where everything is written.")] = Path("runs/demo"),
) -> None:
    """Train a tiny Qwen3-VL with GRPO and with PTD-GRPO from the same start, and compare them.

    Example: `ptdpo demo --seed 1 --out runs/demo-1`
    """
    from ptdpo.demo.run import TABLE_COLUMNS, ArmResult, run_demo, table_rows
    from ptdpo.demo.setting import DemoSettings

    result = run_demo(folder, seed)
    arms = [ArmResult(name=name, **result[name]) for name in DemoSettings().arms]
    _print_table(("", *TABLE_COLUMNS), table_rows(result["start"]["test_accuracy"], arms))
    out.print(f"{result['seconds']['total']:.0f} seconds; page: {folder / 'index.html'}")


@app.command()
def study(
    plan: Annotated[Path, typer.Argument(help="A study plan, such as recipes/demo_study.yaml.")],
    folder: Annotated[Path, typer.Option("--out", help="Where everything is written.")] = Path("runs/study"),
) -> None:
    """Compare the demo's arms over several seeds: choose on validation, then test once.

    Example: `ptdpo study recipes/demo_study.yaml --out runs/study`
    """
    from ptdpo.demo.study import read_plan, run_study, study_tables

    result = run_study(folder, read_plan(plan))
    for title, columns, rows in study_tables(result):
        out.print(f"\n[bold]{title}[/bold]")
        _print_table(columns, rows)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/easy_vqa_ptd_grpo.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, such as learning_rate=2e-6.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Check everything that can be checked, load no weights.")] = False,
    assign: Annotated[list[str] | None, typer.Option("--set", help="The same as a plain key=value.")] = None,
) -> None:
    """Train a model as a recipe says; goes on from the newest checkpoint of its output folder.

    Example: `ptdpo train recipes/qwen3_vl_4b_ptd_grpo.yaml learning_rate=2e-6 --dry-run`
    """
    from ptdpo.config import read_recipe
    from ptdpo.train.run import make_plan, train_recipe

    parsed = read_recipe(recipe, [*(overrides or []), *(assign or [])])
    if dry_run:
        _print_table(("setting", "value"), make_plan(parsed).rows())
    else:
        train_recipe(parsed)


@app.command()
def sft(
    model: Annotated[str, typer.Argument(help="Folder or hub id of the model.")],
    problems: Annotated[Path, typer.Argument(help="A problems file (JSONL).")],
    solutions: Annotated[Path, typer.Argument(help="A solutions file (JSONL): id, response.")],
    folder: Annotated[Path, typer.Option("--out", help="Where the fine-tuned model is saved.")],
    learning_rate: Annotated[float, typer.Option(help="Peak of the cosine schedule.")] = 2e-3,
    batch_size: Annotated[int, typer.Option(help="Rows per step.")] = 32,
    instruction: Annotated[str, typer.Option(help="Appended to every question.")] = "",
    seed: Annotated[int, typer.Option(help="Of the order of rows.")] = 0,
) -> None:
    """Fine-tune a small model on worked solutions, one epoch on the CPU.

    Example: `ptdpo sft runs/tiny runs/easy_vqa.jsonl runs/easy_vqa.solutions.jsonl --out runs/easy_vqa/start`
    """
    from ptdpo.data.dataset import solution_rows
    from ptdpo.data.files import read_problems, read_solutions
    from ptdpo.train.sft import fine_tune_on_cpu

    rows = solution_rows(read_problems(problems), read_solutions(solutions), instruction)
    fine_tune_on_cpu(model, rows, folder, batch_size=batch_size, learning_rate=learning_rate, seed=seed)
    out.print(f"{len(rows)} solutions; saved to {folder}")


@data_app.command("tiny-vlm")
def tiny_vlm(
    folder: Annotated[Path, typer.Argument(help="Where model and processor are saved.")],
    seed: Annotated[int, typer.Option(help="Seed of the weights.")] = 0,
) -> None:
    """Make a tiny real Qwen3-VL with processor, chat template and tokenizer.

    Example: `ptdpo data tiny-vlm runs/tiny`
    """
    from ptdpo.data.easy_vqa import easy_vqa_solution, load_easy_vqa
    from ptdpo.data.prompts import question_text
    from ptdpo.models import TinyVLMSettings, make_tiny_vlm

    texts = [f"{question_text(p)} {easy_vqa_solution(p)}" for p in load_easy_vqa("train")]
    make_tiny_vlm(folder, texts, TinyVLMSettings(seed=seed))
    out.print(f"saved to {folder}")


@data_app.command("easy-vqa")
def easy_vqa(
    file: Annotated[Path, typer.Argument(help="Problems file to write.")],
    split: Annotated[str, typer.Option(help="train or test.")] = "train",
    limit: Annotated[int | None, typer.Option(help="Draw so many questions.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    solutions: Annotated[bool, typer.Option(help="Also write worked solutions, to FILE.solutions.jsonl.")] = False,
    hints: Annotated[bool, typer.Option(help="Also write hints made by rule, to FILE.hints.jsonl.")] = False,
) -> None:
    """Write easy-VQA questions as a problems file.

    Example: `ptdpo data easy-vqa runs/easy_vqa.jsonl --split train --limit 4000 --solutions`
    """
    from ptdpo.data.easy_vqa import easy_vqa_hint, easy_vqa_solution, load_easy_vqa
    from ptdpo.data.files import write_hints, write_problems, write_solutions
    from ptdpo.records import Solution

    problems = load_easy_vqa(split, limit, seed)
    write_problems(file, problems)
    if hints:
        write_hints(file.with_suffix(".hints.jsonl"), {p.id: easy_vqa_hint(p) for p in problems}, model="rule")
    if solutions:
        written = [Solution(problem.id, easy_vqa_solution(problem)) for problem in problems]
        write_solutions(file.with_suffix(".solutions.jsonl"), written)
    out.print(f"{len(problems)} problems in {file}")


@data_app.command("check")
def check(
    problems: Annotated[Path, typer.Argument(help="A problems file (JSONL) or a parquet file or folder.")],
    model: Annotated[str, typer.Option(help="Model whose processor counts prompt tokens; empty: not counted.")] = "",
    max_prompt_tokens: Annotated[int, typer.Option(help="Longest prompt.")] = 8192,
) -> None:
    """List problems that cannot be trained on: missing or broken image, empty answer, over-long prompt.

    Example: `ptdpo data check problems.jsonl --model Qwen/Qwen3-VL-4B-Thinking`
    """
    from ptdpo.config import DataSettings
    from ptdpo.data.load import load_data
    from ptdpo.models import load_processor

    source = "jsonl" if problems.suffix == ".jsonl" else "parquet"
    settings = DataSettings(source, str(problems), max_prompt_tokens=max_prompt_tokens)
    processor = load_processor(model) if model else None
    loaded = load_data(settings, processor=processor, image_folder=problems.parent / "images")
    out.print(f"{len(loaded.problems)} problems, {loaded.hinted} with a hint, all usable")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Folder or hub id of the model.")],
    problems: Annotated[Path, typer.Argument(help="A problems file (JSONL).")],
    responses: Annotated[Path, typer.Option("--out", help="Responses file to write.")],
    samples: Annotated[int, typer.Option(help="Responses per question.")] = 1,
    max_new_tokens: Annotated[int, typer.Option(help="Longest response.")] = 4096,
    temperature: Annotated[float, typer.Option(help="Sampling temperature.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Nucleus.")] = 1.0,
    instruction: Annotated[str | None, typer.Option(help="Instead of the standard thinking instruction.")] = None,
    batch_size: Annotated[int, typer.Option(help="Questions per batch.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the sampling stream.")] = 0,
) -> None:
    """Answer questions with a model in this process and grade the responses.

    Example: `ptdpo evaluate runs/easy_vqa runs/easy_vqa_test.jsonl --out runs/responses.jsonl --max-new-tokens 40`
    """
    from ptdpo.evaluate.run import evaluate_file
    from ptdpo.evaluate.scoring import SamplingSettings

    settings = SamplingSettings(max_new_tokens, temperature, top_p, samples, seed, batch_size)
    summary = evaluate_file(model, problems, responses, settings, instruction)
    _print_table(("", "value"), summary.rows())


def _print_table(columns: tuple[str, ...] | list[str], rows: list[tuple[str, ...]]) -> None:
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    out.print(table)


def main() -> None:
    """Run the command line; a ``ValueError`` is the user's mistake: one line, exit code 2."""
    try:
        app()
    except ValueError as error:
        print(f"ptdpo: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("ptdpo: interrupted; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
