"""What was measured of hints, read back from the files of ``hints recoverability`` and ``hints usefulness``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ptdpo.data.files import read_jsonl
from ptdpo.data.rows import as_text
from ptdpo.hints.recoverability import Recovery
from ptdpo.hints.usefulness import HintedDraws

_T = TypeVar("_T", Recovery, HintedDraws)


def read_recoverability(path: Path) -> dict[str, Recovery]:
    """Return what was guessed from each hint, by id.

    Raises:
        ValueError: if the file cannot be read, or a line is not what ``ptdpo hints recoverability`` writes.
    """
    return _read(path, "recoverability", _recovery)


def read_usefulness(path: Path) -> dict[str, HintedDraws]:
    """Return right responses without and with each hint, by id.

    Raises:
        ValueError: if the file cannot be read, or a line is not what ``ptdpo hints usefulness`` writes.
    """
    return _read(path, "usefulness", _compared)


def _read(path: Path, command: str, made: Callable[[Mapping[str, Any]], _T]) -> dict[str, _T]:
    found: dict[str, _T] = {}
    for number, row in read_jsonl(path):
        try:
            one = made(row)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}:{number}: not a line that ptdpo hints {command} writes ({type(error).__name__}: {error})"
            ) from error
        found[one.id] = one
    return found


def _recovery(row: Mapping[str, Any]) -> Recovery:
    return Recovery(
        as_text(row["id"], "id"),
        int(row["recovered"]),
        len(row["guesses"]),
        float(row["chance"]),
        float(row["p_value"]),
        bool(row["rejected"]),
    )


def _compared(row: Mapping[str, Any]) -> HintedDraws:
    names = ("draws", "right_without", "right_with", "cut_off")
    return HintedDraws(as_text(row["id"], "id"), *(int(row[name]) for name in names))
