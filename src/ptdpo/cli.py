"""The command line: registers the commands; turns a user's mistake into one line and exit code 2."""

import sys

import typer

from ptdpo.commands.compare import compare
from ptdpo.commands.data import data_app
from ptdpo.commands.demo import demo
from ptdpo.commands.evaluate import evaluate_app
from ptdpo.commands.hints import hints_app
from ptdpo.commands.solutions import solutions_app
from ptdpo.commands.train import sft, train

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Privileged tutoring distillation for RLVR: post-train vision-language models when most rollouts fail.",
)
INTERRUPTED = 130
for command in (demo, train, sft, compare):
    app.command()(command)
app.add_typer(data_app, name="data")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(hints_app, name="hints")
app.add_typer(solutions_app, name="solutions")


def main() -> None:
    """Run the command line; a ``ValueError`` is the user's mistake: one line, exit code 2."""
    try:
        app()
    except ValueError as error:
        print(f"ptdpo: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as end:
        # typer makes this of Ctrl-C, without a word.
        if end.code == INTERRUPTED:
            print("ptdpo: interrupted; the same command goes on where it stopped", file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
