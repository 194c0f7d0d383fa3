"""``ptdpo study``."""

from pathlib import Path
from typing import Annotated

import typer

from ptdpo.commands.outputs import Overwrite, refuse_foreign_folder
from ptdpo.commands.printing import out, print_table


def study(
    recipe: Annotated[Path, typer.Argument(help="The file of the study: worlds, arms, candidates.")],
    folder: Annotated[Path, typer.Option("--out", help="Where all but the worlds is written.")] = Path(
        "runs/study/all"
    ),
    workers: Annotated[int, typer.Option(min=1, help="Processes that work beside each other.")] = 1,
    tables: Annotated[bool, typer.Option("--tables/--no-tables", help="Write and print the tables at the end.")] = True,
    only_tables: Annotated[bool, typer.Option("--only-tables", help="Of what is finished; train nothing.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Compare many methods on many worlds at one budget; a second call goes on where the first stopped.

    Each arm chooses among the same number of candidates on validation worlds, is trained with its choice on test
    worlds, and answers each test question once.

    Example: `ptdpo study recipes/study/puzzles.yaml --workers 2`
    """
    from ptdpo.study.jobs import ASKED
    from ptdpo.study.plan import read_study
    from ptdpo.study.results import read_study_results
    from ptdpo.study.run import LOCKS, helper_command, run_study
    from ptdpo.study.tables import study_tables, write_study_tables

    makes = ("study.*", "seed-*", "recipes", "gains", LOCKS, "images", ASKED)
    refuse_foreign_folder("--out", folder, "study", makes=makes, marks=(LOCKS,), inputs=[recipe], overwrite=overwrite)
    # Before anything else is written: a study that is refused half-way must not find its folder a stranger's.
    (folder / LOCKS).mkdir(parents=True, exist_ok=True)
    asked = read_study(recipe, folder)
    if not only_tables:
        helpers = [helper_command(recipe, folder)] * (workers - 1)
        run_study(asked, lambda line: out.print(line, highlight=False), helpers)
    if not tables:
        return
    result = read_study_results(asked)
    write_study_tables(folder, result)
    for table in study_tables(result):
        out.print(f"\n[bold]{table.title}[/bold]")
        print_table(table.columns, table.rows)
        if table.note:
            out.print(table.note, highlight=False)
