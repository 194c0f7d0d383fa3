"""``ptdpo watch``."""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from ptdpo.commands.printing import out
from ptdpo.commands.report import run_view

if TYPE_CHECKING:
    from ptdpo.report.run_view import RunView
    from ptdpo.runlog import TokenLine

WIDTH = 40
_SHOWN = ("accuracy", "divergence", "entropy", "kl", "completions/mean_length", "grad_norm")
_COLOURS = (("red", "all fail"), ("yellow", "mixed"), ("green", "all right"))


def watch(
    run: Annotated[Path, typer.Argument(help="Folder of a run in progress.")],
    seconds: Annotated[float, typer.Option(min=0.2, help="Between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
) -> None:
    """Watch a run in the terminal: its newest step, its groups, one rollout coloured by divergence; Ctrl-C ends.

    A run that tutors nothing shows a rollout by entropy.

    Example: `ptdpo watch runs/ptd-grpo`
    """
    if once:
        out.print(picture(run_view(run, run.name)), soft_wrap=True)
        return
    with Live(picture(run_view(run, run.name)), console=out, auto_refresh=False) as live:
        view = run_view(run, run.name)
        while not view.finished:
            time.sleep(seconds)
            view = run_view(run, run.name)
            live.update(picture(view), refresh=True)


def picture(view: "RunView") -> Group:
    """Return what the terminal shows of a run. Texts of a run are shown, never read as markup or as control."""
    from ptdpo.report.run_view import GROUPS

    newest = view.metrics[-1] if view.metrics else {}
    shares = [newest.get(key, math.nan) for key in GROUPS]
    numbers = "  ".join(f"{key.rpartition('/')[2]} {newest[key]:.4g}" for key in _SHOWN if key in newest)
    parts = [Text(f"{view.name}: step {view.steps}{', finished' if view.finished else ''}", style="bold")]
    parts.append(Text(numbers))
    if all(map(math.isfinite, shares)):
        bar = Text()
        for share, (colour, name) in zip(shares, _COLOURS, strict=True):
            bar.append("█" * round(WIDTH * min(max(share, 0.0), 1.0)), style=colour)
            bar.append(f" {name} {share:.2f} ", style=colour)
        parts.append(bar)
    every = list(view.records.tokens.values())
    told = [line for line in every if line.divergence] or every
    parts.append(_rollout(view, told[-1]) if told else Text("no rollout is recorded yet", style="dim"))
    return Group(*parts)


def _rollout(view: "RunView", line: "TokenLine") -> Text:
    group = view.records.groups.get((line.sampled, line.group))
    question = None if group is None else view.records.question_of(group)
    of = "?" if group is None else _plain(group.id)
    kind = "tutored rollout" if line.divergence else "rollout"
    text = Text(f"\nstep {line.step}, {kind} {line.rollout + 1} of {of}\n")
    if question is not None:
        text.append(_plain(question.question[:300]) + "\n", style="dim")
        text.append(_plain(question.hint[:300]) + "\n", style="italic dim")
    name, values = ("divergence", line.divergence) if line.divergence else ("entropy", line.entropy)
    strongest = max(values, default=0.0) or 1.0
    for one, nats in zip(line.ids, values, strict=True):
        level = nats / strongest
        style = "white on red" if level > 0.66 else "black on yellow" if level > 0.33 else ""
        text.append(_plain(line.texts.get(str(one), "?")), style=style)
    text.append(f"\nred: above two thirds of the strongest {name}, {strongest:.3f} nats", style="dim")
    return text


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in text)
