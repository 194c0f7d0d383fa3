"""Hints files as people have them: every line is read or reported, none stops the rest."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ptdpo.data.files import as_text
from ptdpo.records import Hint


@dataclass(frozen=True, slots=True)
class HintLines:
    """The hints of a file by id, and what was wrong with the other lines, each with file and line number."""

    hints: dict[str, Hint]
    mistakes: list[str]


def read_hint_lines(path: str | Path, known_ids: Collection[str]) -> HintLines:
    """Read hints; broken lines, ids used twice and ids of no problem are listed, and the rest is kept.

    Of an id used twice the first line counts.

    Raises:
        ValueError: if the file does not exist.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    hints: dict[str, Hint] = {}
    mistakes: list[str] = []
    first_line: dict[str, int] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                key, hint = _parse(line)
                if key in first_line:
                    raise ValueError(f"the id {key!r} is used twice, first in line {first_line[key]}")
                first_line[key] = number
                if key not in known_ids:
                    raise ValueError(f"the id {key!r} belongs to no problem")
                hints[key] = hint
            except ValueError as error:
                mistakes.append(f"{path}:{number}: {error}")
    return HintLines(hints, mistakes)


def _parse(line: bytes) -> tuple[str, Hint]:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON ({error.msg})") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(row, dict) or "id" not in row:
        raise ValueError("expected a JSON object with an id")
    hint = row.get("hint")
    if not isinstance(hint, dict) or not all(isinstance(hint.get(part), str) for part in ("look", "reason")):
        raise ValueError('expected "hint": {"look": text, "reason": text}')
    return as_text(row["id"], "id"), Hint(hint["look"], hint["reason"])
