"""The command line: registers the commands; turns a user's mistake into one line and exit code 2."""

import sys

import typer

from ptdpo.chat.secrets import printable
from ptdpo.commands.analyze import analyze
from ptdpo.commands.compare import compare
from ptdpo.commands.data import data_app
from ptdpo.commands.demo import demo
from ptdpo.commands.evaluate import evaluate_app
from ptdpo.commands.hints import hints_app
from ptdpo.commands.merge import merge
from ptdpo.commands.plan import plan
from ptdpo.commands.report import report
from ptdpo.commands.screen import quiet_screen
from ptdpo.commands.solutions import solutions_app
from ptdpo.commands.study import study
from ptdpo.commands.train import sft, train
from ptdpo.commands.watch import watch
from ptdpo.signals import REQUEUE, StoppedBySignal, ending_on_signals

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Privileged tutoring distillation for RLVR: post-train vision-language models when most rollouts fail.",
)
INTERRUPTED = 130
for command in (demo, plan, train, sft, merge, compare, study, report, analyze, watch):
    app.command()(command)
app.add_typer(data_app, name="data")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(hints_app, name="hints")
app.add_typer(solutions_app, name="solutions")


def main() -> None:
    """Run the command line; a ``ValueError`` or ``OSError`` is the user's mistake: one line, exit code 2."""
    try:
        with ending_on_signals(), quiet_screen():
            app()
    except StoppedBySignal as stop:
        print(f"ptdpo: {stop}", file=sys.stderr)
        sys.exit(REQUEUE)
    except (ValueError, OSError) as error:
        print(f"ptdpo: {printable(_in_one_line(error))}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as end:
        # typer makes this of Ctrl-C, without a word.
        if end.code == INTERRUPTED:
            print("ptdpo: interrupted; the same command goes on where it stopped", file=sys.stderr)
        raise


def _in_one_line(error: ValueError | OSError) -> str:
    """Return the message; of a fault of the file system, the path and the reason."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        # Two paths: the first is the partial file, the second the one that the user named.
        return f"{error.filename2 or error.filename}: {error.strerror}"
    return " ".join(str(error).split())


if __name__ == "__main__":
    main()
