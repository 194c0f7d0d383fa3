"""Problems, hints and solutions as JSONL files. Bad lines are refused by file and line number."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ptdpo.folders import replacing
from ptdpo.records import Hint, Problem, Solution


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) for each non-empty line.

    Raises:
        ValueError: if the file does not exist or a line is not a JSON object; names the file and the line.
    """
    for number, row, fault in scan_jsonl(path):
        if row is None:
            raise ValueError(f"{path}:{number}: {fault}")
        yield number, row


def scan_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any] | None, str]]:
    """Yield (line number, object, "") for each non-empty line, or (line number, None, fault) for a bad one.

    Raises:
        ValueError: if the file does not exist.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    # As bytes: one line that is not UTF-8 must not hide its number, or the lines after it.
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, *_parsed(line)


def _parsed(line: bytes) -> tuple[dict[str, Any] | None, str]:
    try:
        row = json.loads(line.decode("utf-8"), object_pairs_hook=_unique)
    except UnicodeDecodeError:
        return None, "not UTF-8 text"
    except json.JSONDecodeError as error:
        return None, f"not valid JSON ({error.msg})"
    except (ValueError, RecursionError) as error:
        return None, f"not readable as JSON ({error})"
    if isinstance(row, dict):
        return row, ""
    return None, f"expected a JSON object, found {type(row).__name__}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; of a key that stands twice json would take the last without a word."""
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return row


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line, replacing the file in one step so that a reader never sees half of it."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def _field(row: Mapping[str, Any], name: str, where: str, kind: type) -> Any:
    if name not in row:
        raise ValueError(f"{where}: the field {name!r} is missing (found: {', '.join(sorted(row)) or 'none'})")
    if not isinstance(row[name], kind):
        raise ValueError(f"{where}: the field {name!r} must be {kind.__name__}, found {type(row[name]).__name__}")
    return row[name]


def as_text(value: Any, name: str, where: str = "") -> str:
    """Return a text or a number as text, as people write ids and answers; nothing else has one obvious spelling.

    Args:
        value: what a field holds.
        name: of the field.
        where: it stands, for the message; empty if whoever catches it knows.

    Raises:
        ValueError: if it is anything else, a truth value, null or NaN included; begins with ``where``.
    """
    if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool) and value == value):
        return str(value)
    found = "null" if _is_missing(value) else f"{type(value).__name__}: {str(value)[:40]}"
    raise ValueError(f"{where and where + ': '}the field {name!r} must be a text or a number, found {found}")


def _is_missing(value: Any) -> bool:
    # NaN is how tables write a missing value; it alone differs from itself.
    return value is None or (isinstance(value, float) and value != value)


def optional_text(value: Any, name: str, where: str) -> str:
    """Return ``as_text`` of a value, and an empty text for a missing one: null, or a table's NaN.

    Raises:
        ValueError: if it is neither missing, nor a text, nor a number; begins with ``where``.
    """
    return "" if _is_missing(value) else as_text(value, name, where)


def read_problems(path: str | Path) -> list[Problem]:
    """Read problems JSONL; relative image paths are taken from the folder of the file.

    Raises:
        ValueError: on a missing or mistyped field, or an id seen twice; names the file and the line.
    """
    path = Path(path)
    problems: dict[str, Problem] = {}
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        problem = parse_problem(row, where, path.parent)
        if problem.id in problems:
            raise ValueError(f"{where}: the id {problem.id!r} is used twice")
        problems[problem.id] = problem
    return list(problems.values())


def parse_problem(row: Mapping[str, Any], where: str, folder: Path) -> Problem:
    """Return the problem in a row; relative image paths are taken from ``folder``. An answer of null becomes empty.

    Raises:
        ValueError: on a missing or mistyped field; begins with ``where``.
    """
    images = _field(row, "images", where, list) if "images" in row else []
    if not all(isinstance(image, str) for image in images):
        raise ValueError(f"{where}: 'images' must be a list of paths")
    return Problem(
        id=_id(row, where),
        images=tuple(str(folder / image) for image in images),
        problem=_field(row, "problem", where, str),
        # Without an answer the row is a bad one, which the checks report with all the others.
        answer=optional_text(_field(row, "answer", where, object), "answer", where),
        source=optional_text(row.get("source"), "source", where),
        prompt_with_hint=None if row.get("prompt_with_hint") is None else _field(row, "prompt_with_hint", where, str),
    )


def _id(row: Mapping[str, Any], where: str) -> str:
    return as_text(_field(row, "id", where, object), "id", where)


def write_problems(path: str | Path, problems: Iterable[Problem]) -> None:
    """Write problems JSONL; images inside the file's folder are stored relative to it."""
    folder = Path(path).parent.resolve()
    write_jsonl(
        path,
        (
            {
                "id": p.id,
                "images": [_relative(image, folder) for image in p.images],
                "problem": p.problem,
                "answer": p.answer,
                "source": p.source,
                **({} if p.prompt_with_hint is None else {"prompt_with_hint": p.prompt_with_hint}),
            }
            for p in problems
        ),
    )


def _relative(image: str, folder: Path) -> str:
    resolved = Path(image).resolve()
    return str(resolved.relative_to(folder)) if resolved.is_relative_to(folder) else str(resolved)


def read_hints(path: str | Path) -> dict[str, Hint]:
    """Read hints JSONL into hints by problem id.

    Raises:
        ValueError: on a missing or mistyped field, or an id seen twice; names the file and the line.
    """
    hints: dict[str, Hint] = {}
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        key = _id(row, where)
        if key in hints:
            raise ValueError(f"{where}: the id {key!r} is used twice")
        hint = _field(row, "hint", where, dict)
        hints[key] = Hint(look=_field(hint, "look", where, str), reason=_field(hint, "reason", where, str))
    return hints


def write_hints(path: str | Path, hints: Mapping[str, Hint], model: str) -> None:
    """Write hints JSONL; ``model`` names what made them."""
    write_jsonl(
        path,
        (
            {
                "id": key,
                "hint": {"look": h.look, "reason": h.reason},
                "model": model,
                "attempts": 1,
                "rejected": [],
            }
            for key, h in hints.items()
        ),
    )


def write_solutions(path: str | Path, solutions: Iterable[Solution]) -> None:
    """Write solutions JSONL: id and response."""
    write_jsonl(path, ({"id": s.id, "response": s.response} for s in solutions))


def read_solutions(path: str | Path) -> dict[str, str]:
    """Read solutions into responses by problem id: lines with ``response``, or conversations in ShareGPT's form.

    Raises:
        ValueError: on a line that is neither; names the file and the line.
    """
    solutions = {}
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        key = _id(row, where)
        solutions[key] = _last_turn(row, where) if "conversations" in row else _field(row, "response", where, str)
    return solutions


def _last_turn(row: Mapping[str, Any], where: str) -> str:
    turns = _field(row, "conversations", where, list)
    last = turns[-1] if turns else None
    if not isinstance(last, dict) or last.get("from") != "gpt":
        raise ValueError(f"{where}: the last turn of 'conversations' must be from 'gpt'")
    return _field(last, "value", where, str)


def sharegpt_row(problem: Problem, question: str, response: str, folder: Path) -> dict[str, Any]:
    """Return a solution in ShareGPT's form, as LLaMA-Factory and TRL read it.

    Args:
        problem: whose id and images are stored; the marker ``<image>`` stands in the question once for each.
        question: what the student is asked.
        response: what it should say.
        folder: images inside it are stored relative to it.
    """
    return {
        "id": problem.id,
        "conversations": [
            {"from": "human", "value": "<image>" * len(problem.images) + question},
            {"from": "gpt", "value": response},
        ],
        "images": [_relative(image, folder.resolve()) for image in problem.images],
    }
