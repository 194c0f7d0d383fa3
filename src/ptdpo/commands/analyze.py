"""``ptdpo analyze``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptdpo.commands.outputs import Overwrite, refuse_foreign_folder
from ptdpo.commands.printing import out, print_table
from ptdpo.commands.report import names_of, run_view
from ptdpo.folders import sole_writer

if TYPE_CHECKING:
    from ptdpo.analysis.of_recipe import Draws, OfRecipe


def _known(name: str) -> str:
    from ptdpo.analysis import ANALYSES

    if name in ANALYSES:
        return name
    # With torch, which the analyses of records do without.
    from ptdpo.analysis.of_recipe import OF_RECIPE

    if name not in OF_RECIPE:
        raise typer.BadParameter(f"{name!r}: choose among {', '.join((*ANALYSES, *OF_RECIPE))}")
    return name


def analyze(
    name: Annotated[str, typer.Argument(help="One of those above.", callback=_known)],
    paths: Annotated[list[Path], typer.Argument(help="Folders of runs, or one recipe.")],
    folder: Annotated[Path, typer.Option("--out", help="Where table and plot are written.")] = Path("analysis"),
    questions: Annotated[int, typer.Option(min=1, help="Of the recipe's data.")] = 32,
    samples: Annotated[int, typer.Option(min=1, help="Responses per question and context.")] = 8,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Where a response is cut.")] = 256,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Of each small training; divergence 40, gap 8.")] = None,
    assign: Annotated[list[str] | None, typer.Option("--set", help="key=value for the recipe.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Analyse: a table, a plot (SVG and PNG), JSON, and one sentence on what is seen.

    Of the records of runs: **groups**, their composition over training; **entropy** of tokens in tutored and untutored
    groups; **overlap** of student's and teacher's leading tokens, by kind of token.

    Of the start model and data of a recipe, by sampling (the same command goes on): **contexts**, what question,
    answer, hint and solution change along failed rollouts; **recovery** of questions that always fail under each;
    **support**, how far Top-K is from the full divergence.

    Of a recipe, before it is trained: **gap**, how much better its teacher is with the hint, how far away on failed
    rollouts, and the lambda at which both gradients are equally long; **divergence**, reward and gradient norm of small
    trainings under each; **memory** of full vocabulary and Top-K, by formula and measured.

    Example: `ptdpo analyze groups runs/grpo runs/ptd-grpo --out analysis`
    """
    from ptdpo.analysis import ANALYSES

    makes = (f"{name}.*", "sampling.json", "samples.jsonl", "images")
    refuse_foreign_folder("--out", folder, "analyze", makes=makes, inputs=paths, overwrite=overwrite)
    with sole_writer(folder, "analyze"):
        if name in ANALYSES:
            views = [run_view(path, named) for path, named in zip(paths, names_of(paths), strict=True)]
            analysis = ANALYSES[name](views)
        else:
            from ptdpo.analysis.of_recipe import OF_RECIPE, Draws

            draws = Draws(questions, samples, max_new_tokens, seed=seed)
            analysis = OF_RECIPE[name](_asked(name, paths, assign or [], draws, steps, folder))
        written = analysis.write(folder)
    print_table(analysis.columns, analysis.cells())
    out.print(analysis.sentence, soft_wrap=True, markup=False)
    out.print("wrote " + ", ".join(map(str, written)), soft_wrap=True, markup=False)


def _asked(
    name: str, paths: Sequence[Path], assign: Sequence[str], draws: "Draws", steps: int | None, folder: Path
) -> "OfRecipe":
    from ptdpo.analysis.of_recipe import OfRecipe
    from ptdpo.config import given_once, read_recipe

    if len(paths) != 1 or paths[0].is_dir():
        raise ValueError(f"analyze {name}: give one recipe, whose model and data it takes")
    return OfRecipe(read_recipe(paths[0], given_once(assign)), folder, draws, steps, typer.echo)
