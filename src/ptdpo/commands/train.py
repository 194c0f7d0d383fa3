"""``ptdpo train`` and ``ptdpo sft``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptdpo.commands import reading_options as reading
from ptdpo.commands.option_ranges import check_ranges
from ptdpo.commands.outputs import MODEL_FILES, Overwrite, refuse_foreign_folder
from ptdpo.commands.printing import out, print_table
from ptdpo.folders import sole_writer

if TYPE_CHECKING:
    from ptdpo.train.plan import Plan


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/easy_vqa_ptd_grpo.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, such as learning_rate=2e-6.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Check everything that can be checked, load no weights.")] = False,
    assign: Annotated[list[str] | None, typer.Option("--set", help="The same as a plain key=value.")] = None,
    gpus: Annotated[str | None, typer.Option(help="With --dry-run: plan for these, such as 8xH100-80GB.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a model as a recipe says; goes on from the newest checkpoint of its output folder.

    Example: `ptdpo train recipes/qwen3_vl_4b_ptd_grpo.yaml learning_rate=2e-6 --dry-run`
    """
    from ptdpo.config import given_once, read_recipe
    from ptdpo.models.loading import check_model
    from ptdpo.runlog import FINISHED, STARTED
    from ptdpo.train.plan import make_plan, resolved_settings
    from ptdpo.train.run import output_folder, train_recipe

    parsed = read_recipe(recipe, given_once([*(overrides or []), *(assign or [])]))
    check_model(parsed.model)
    data = parsed.data
    refuse_foreign_folder(
        "output_dir",
        output_folder(resolved_settings(parsed)),
        "train",
        makes=(*MODEL_FILES, "metrics.jsonl", "tutored_examples.jsonl"),
        marks=(STARTED, FINISHED),
        inputs=(recipe, parsed.model, parsed.train.get("tutoring_teacher"), data.path, data.hints, data.solutions),
        overwrite=overwrite,
    )
    if dry_run:
        _print_plan(make_plan(parsed), gpus)
    elif gpus is not None:
        raise ValueError(f"--gpus {gpus}: only a plan is made for cards that are named; add --dry-run")
    else:
        folder = train_recipe(parsed)
        if os.environ.get("RANK", "0") == "0":
            out.print(f"the model is in {folder}", markup=False, highlight=False)


def _print_plan(plan: "Plan", gpus: str | None) -> None:
    """Print what a run would do, and what it needs of its GPUs; exit code 1 if it does not fit those that are named."""
    from ptdpo.commands import planned
    from ptdpo.train.memory.advice import run_of
    from ptdpo.train.memory.sizes import known_offline
    from ptdpo.train.plan import resolved_settings
    from ptdpo.train.settings import PTDConfig
    from ptdpo.train.work.cards import DEFAULT_CARD, gpus_named
    from ptdpo.train.work.hours import Efficiencies
    from ptdpo.train.work.phases import Lengths

    recipe, settings = plan.recipe, resolved_settings(plan.recipe)
    print_table(("setting", "value"), plan.rows())
    if not isinstance(settings, PTDConfig):
        return
    print_table(("what", "value"), planned.method_rows(settings))
    planned.print_schedule(settings, plan.optimiser_steps)
    if (settings.use_cpu and gpus is None) or not known_offline(recipe.model, settings.other_teacher):
        return
    named = gpus_named(gpus or DEFAULT_CARD)
    run = run_of(recipe, named.count or recipe.processes, named.card.memory)
    fits = planned.print_memory(run)
    planned.print_time(run, named.card, Efficiencies(), Lengths(run.workload), steps=plan.optimiser_steps)
    if gpus is not None and not fits:
        raise typer.Exit(1)


def sft(
    model: Annotated[str, typer.Argument(help="Folder or hub id of the model.")],
    problems: Annotated[Path, typer.Argument(help="A problems file: JSONL, or parquet (file or folder).")],
    solutions: Annotated[Path, typer.Argument(help="A solutions file (JSONL): id, response.")],
    folder: Annotated[Path, typer.Option("--out", help="Where the fine-tuned model is saved.")],
    learning_rate: Annotated[float, typer.Option(help="Peak of the cosine schedule.")] = 2e-3,
    batch_size: Annotated[int, typer.Option(help="Rows per step.")] = 32,
    instruction: Annotated[str, typer.Option(help="Appended to every question.")] = "",
    seed: Annotated[int, typer.Option(help="Of the order of rows.")] = 0,
    overwrite: Overwrite = False,
    columns: reading.Columns = None,
    allow_unknown: reading.AllowUnknown = False,
    ignore_question: reading.IgnoreQuestion = False,
) -> None:
    """Fine-tune a small model on worked solutions, one epoch on the CPU.

    Example: `ptdpo sft runs/tiny runs/easy_vqa.jsonl runs/easy_vqa.solutions.jsonl --out runs/easy_vqa/start`
    """
    given = locals()
    from ptdpo.data.checks import describe_bad_rows, find_bad_rows
    from ptdpo.data.dataset import solution_rows
    from ptdpo.data.files import read_made_solutions
    from ptdpo.data.identity import fitting
    from ptdpo.data.scan import read_rows
    from ptdpo.models.loading import check_model, load_processor
    from ptdpo.train.setting_types import LIMITS
    from ptdpo.train.trl.sft import fine_tune_on_cpu

    check_ranges(given, LIMITS, per_device_train_batch_size="batch_size")
    inputs = (model, problems, solutions)
    refuse_foreign_folder("--out", folder, "sft", makes=MODEL_FILES, inputs=inputs, overwrite=overwrite)
    check_model(model, "MODEL")
    read = read_rows(problems, reading.reading_from(columns, allow_unknown))
    made = read_made_solutions(solutions)
    responses = fitting(made, read.problems, str(solutions), "solutions", ignore=ignore_question)
    good, bad = read.problems, read.bad
    # What is bad whatever model reads it is said before one is looked for.
    for processor in (lambda: None, lambda: load_processor(model)):
        checked = find_bad_rows(good, processor=processor(), solutions=responses, instruction=instruction)
        good, bad = checked.good, [*bad, *checked.bad]
        if bad:
            raise ValueError(f"{describe_bad_rows(bad, str(problems))}; mend them or take them out")
    rows = solution_rows(good, responses, instruction)
    with sole_writer(folder, "sft"):
        fine_tune_on_cpu(model, rows, folder, batch_size=batch_size, learning_rate=learning_rate, seed=seed)
    out.print(f"{len(rows)} solutions; saved to {folder}")
