"""``ptdpo report``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptdpo.commands.outputs import Overwrite, output_file
from ptdpo.commands.printing import out
from ptdpo.folders import write_text

if TYPE_CHECKING:
    from ptdpo.report.run_view import RunView


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, finished or in progress.")],
    page: Annotated[Path, typer.Option("--out", help="The HTML file to write.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "",
    overwrite: Overwrite = False,
) -> None:
    """Write one page about runs: what stands out, curves, groups, time, and their rollouts token by token.

    The page needs no network and no server; open it in a browser.

    Example: `ptdpo report runs/grpo runs/ptd-grpo --out report.html`
    """
    from ptdpo.report.run_page import run_page

    with output_file("--out", page, "report", inputs=runs, overwrite=overwrite):
        views = [run_view(folder, name) for folder, name in zip(runs, names_of(runs), strict=True)]
        html = run_page(views, title or ", ".join(view.name for view in views))
        write_text(page, html)
    groups = sum(len(view.records.groups) for view in views)
    out.print(f"{page}: {len(views)} runs, {groups} recorded groups, {len(html.encode()) / 1e6:.1f} MB", soft_wrap=True)


def run_view(folder: Path, name: str) -> "RunView":
    """Read a run.

    Raises:
        ValueError: if the folder is no run: it has neither metrics nor records.
    """
    from ptdpo.report.run_view import RunView, numbers_of, settings_of_run
    from ptdpo.runlog import FINISHED, METRICS_FILE, read_records
    from ptdpo.train.metrics import read_metrics

    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; name the output_dir of a run")
    path, records = folder / METRICS_FILE, read_records(folder)
    if not path.exists() and not records.groups:
        raise ValueError(f"{folder}: has neither {METRICS_FILE} nor records; name the output_dir of a run")
    rows = read_metrics(path) if path.exists() else []
    rows = [numbers_of(row) for row in rows]
    return RunView(name, rows, records, settings_of_run(folder), (folder / FINISHED).exists())


def names_of(runs: list[Path]) -> list[str]:
    """Return a short name of each run: the end of its path that tells it from the others."""
    parts = [folder.resolve().parts for folder in runs]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    raise ValueError("a run is named twice")
