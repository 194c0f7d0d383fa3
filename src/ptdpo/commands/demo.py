"""``ptdpo demo``."""

from pathlib import Path
from typing import Annotated

import typer

from ptdpo.commands.outputs import Overwrite, refuse_foreign_folder
from ptdpo.commands.printing import out, print_table


def demo(
    seed: Annotated[int, typer.Option(help="Decides the hidden rules, the data and every random draw.")] = 0,
    folder: Annotated[Path, typer.Option("--out", help="Where everything is written.")] = Path("runs/demo"),
    overwrite: Overwrite = False,
) -> None:
    """Train a tiny Qwen3-VL with GRPO and with PTD-GRPO from the same start, and compare them.

    Example: `ptdpo demo --seed 1 --out runs/demo-1`
    """
    from ptdpo.demo.run import MAKES, TABLE_COLUMNS, ArmResult, run_demo, table_rows
    from ptdpo.demo.setting import DemoSettings

    refuse_foreign_folder("--out", folder, "demo", makes=MAKES, overwrite=overwrite)
    result = run_demo(folder, seed)
    arms = [ArmResult(name=name, **result[name]) for name in DemoSettings().arms]
    print_table(("", *TABLE_COLUMNS), table_rows(result["start"]["test_accuracy"], arms))
    out.print(f"{result['seconds']['total']:.0f} seconds; page: {folder / 'index.html'}")
