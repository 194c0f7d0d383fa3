"""``ptdpo compare``."""

from pathlib import Path
from typing import Annotated

import typer

from ptdpo.commands.outputs import Overwrite, refuse_foreign_folder
from ptdpo.commands.printing import out, print_table


def compare(
    recipes: Annotated[list[Path], typer.Argument(help="Recipes; the first is the baseline.")],
    folder: Annotated[Path, typer.Option("--out", help="Where everything is written.")] = Path("runs/compare"),
    seeds: Annotated[str, typer.Option(help="Final seeds, tested once.")] = "0,1,2,3,4",
    tuning_seeds: Annotated[str, typer.Option(help="Seeds on which settings are chosen by validation.")] = "",
    grid: Annotated[list[str] | None, typer.Option(help="key=value,value,...: choose among these.")] = None,
    assign: Annotated[list[str] | None, typer.Option("--set", help="key=value for every run.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train several recipes over several seeds and compare them; a second call goes on where the first stopped.

    ``{seed}`` in a recipe stands for the seed of the run, so that every seed may start from its own model.

    Example: `ptdpo compare recipes/demo/grpo.yaml recipes/demo/papo.yaml --seeds 0,1,2 --set learning_rate=5e-5`
    """
    from ptdpo.compare.plan import make_compare_plan
    from ptdpo.compare.run import run_comparison
    from ptdpo.compare.tables import comparison_tables, write_tables
    from ptdpo.config import given_once, parse_value

    makes = ("comparison.*", "*.svg", "seed-*")
    refuse_foreign_folder("--out", folder, "compare", makes=makes, inputs=recipes, overwrite=overwrite)
    choices = {}
    for text in grid or []:
        key, equals, values = text.partition("=")
        if not equals or not values:
            raise ValueError(f"--grid {text!r}: expected key=value,value,...")
        choices[key] = [parse_value(value, f"--grid {key}") for value in values.split(",")]
    plan = make_compare_plan(
        recipes, _numbers(seeds, "--seeds"), _numbers(tuning_seeds, "--tuning-seeds"), choices, given_once(assign or [])
    )
    result = run_comparison(folder, plan)
    write_tables(folder, result)
    for table in comparison_tables(result):
        out.print(f"\n[bold]{table.title}[/bold]")
        print_table(table.columns, table.rows)
        if table.note:
            out.print(table.note, highlight=False)


def _numbers(text: str, where: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise ValueError(f"{where} {text!r}: expected whole numbers with commas between them") from error
