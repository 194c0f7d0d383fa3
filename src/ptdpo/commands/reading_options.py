"""The options of every command that reads problems: how their rows are read."""

from typing import Annotated

import typer

from ptdpo.data.rows import Reading

AllowUnknown = Annotated[bool, typer.Option("--allow-unknown", help="Pass over keys and columns that are not ours.")]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="FIELD=NAME: a field of a problem has another key or column, e.g. problem=question."),
]
IgnoreQuestion = Annotated[
    bool, typer.Option("--ignore-question", help="Use what was made for another question, image or answer.")
]


def reading_from(columns: list[str] | None, allow_unknown: bool) -> Reading:
    """Return how rows are read.

    Raises:
        ValueError: if a column is not given as FIELD=NAME, or the field does not exist.
    """
    named = {}
    for text in columns or []:
        name, equals, column = text.partition("=")
        if not (name and equals and column):
            raise ValueError(f"--column {text}: write FIELD=NAME, such as problem=question")
        named[name] = column
    return Reading(named, allow_unknown)
