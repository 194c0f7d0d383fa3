"""Printing shared by the commands."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

# A file or a pipe has no width: tables are written whole.
PIPED_WIDTH = 200

out = Console()
if not out.is_terminal:
    out.width = PIPED_WIDTH


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to standard output."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    out.print(table)
