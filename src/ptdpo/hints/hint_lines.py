"""Hints files as people have them: every line is read or reported, none stops the rest."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ptdpo.data.files import made_hint
from ptdpo.data.identity import MadeFor
from ptdpo.data.rows import as_text
from ptdpo.records import Hint, Problem


@dataclass(frozen=True, slots=True)
class HintLines:
    """The hints of a file by id, and what was wrong with the other lines, each with file and line number."""

    hints: dict[str, Hint]
    mistakes: list[str]


def read_hint_lines(path: str | Path, problems: Mapping[str, Problem], *, ignore_question: bool = False) -> HintLines:
    """Read hints; what cannot be used is listed, and the rest is kept.

    That are broken lines, ids used twice, ids of no problem and, unless ``ignore_question``, hints that were made for
    another question, image or answer than the problem with their id now has.

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
                key, made = _parse(line)
                if key in first_line:
                    raise ValueError(f"the id {key!r} is used twice, first in line {first_line[key]}")
                first_line[key] = number
                if key not in problems:
                    raise ValueError(f"the id {key!r} belongs to no problem")
                if not ignore_question and not made.fits(problems[key]):
                    raise ValueError(
                        f"the hint of {key!r} was made for another question, image or answer (--ignore-question)"
                    )
                hints[key] = made.what
            except ValueError as error:
                mistakes.append(f"{path}:{number}: {error}")
    return HintLines(hints, mistakes)


def _parse(line: bytes) -> tuple[str, MadeFor[Hint]]:
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
    return as_text(row["id"], "id"), made_hint(row, "hint")
