"""``ptdpo analyze``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ptdpo.analysis import ANALYSES
from ptdpo.commands.outputs import refuse_unwritable_folder
from ptdpo.commands.printing import out, print_table
from ptdpo.commands.report import names_of, run_view

AnalysisName = StrEnum("AnalysisName", {name: name for name in ANALYSES})


def analyze(
    name: Annotated[AnalysisName, typer.Argument(help="What to look at.")],
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, finished or in progress.")],
    folder: Annotated[Path, typer.Option("--out", help="Where table and plot are written.")] = Path("analysis"),
) -> None:
    """Analyse the records of runs: a table, a plot (SVG and PNG), JSON, and one sentence on what is seen.

    groups: composition of groups over training. entropy: of tutored and untutored groups. overlap: of student's and
    teacher's leading tokens, by kind of token.

    Example: `ptdpo analyze groups runs/grpo runs/ptd-grpo --out analysis`
    """
    refuse_unwritable_folder("--out", folder)
    views = [run_view(path, named) for path, named in zip(runs, names_of(runs), strict=True)]
    analysis = ANALYSES[name.value](views)
    paths = analysis.write(folder)
    print_table(analysis.columns, analysis.cells())
    out.print(analysis.sentence, soft_wrap=True)
    out.print("wrote " + ", ".join(map(str, paths)), soft_wrap=True)
