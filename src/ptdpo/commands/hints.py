"""``ptdpo hints``: make, check and review hints."""

import typer

from ptdpo.commands.hint_building import build, recoverability, usefulness
from ptdpo.commands.hint_quality import check, review

hints_app = typer.Typer(no_args_is_help=True, help="Make, check and review hints.")
for command in (build, check, review, recoverability, usefulness):
    hints_app.command()(command)
