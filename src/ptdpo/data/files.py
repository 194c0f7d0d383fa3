"""Problems, hints and solutions as JSONL files. Bad lines are refused by file and line number."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ptdpo.data.identity import MadeFor, question_hash
from ptdpo.data.prompts import marked_text
from ptdpo.data.rows import IMAGE_FIELDS, Reading, as_text, id_text, problem_of, refuse_no_file, unknown_key
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


def parse_problem(row: Mapping[str, Any], where: str, folder: Path, reading: Reading | None = None) -> Problem:
    """Return the problem in a line; relative image paths are taken from ``folder``. An answer of null becomes empty.

    Raises:
        ValueError: on an unknown key, or a missing or mistyped field; begins with ``where``.
    """
    reading = reading or Reading()
    fault = unknown_key(row, reading)
    if fault:
        raise ValueError(f"{where}: {fault}")
    images = {name: _image_cells(row, reading.key(name), where) for name in IMAGE_FIELDS}
    for name in ("problem", "answer"):
        _field(row, reading.key(name), where, object if name == "answer" else str)
    for name in (reading.key("prompt_with_hint"), reading.key("feedback")):
        if row.get(name) is not None:
            _field(row, name, where, str)
    key = id_text(_field(row, reading.key("id"), where, object), reading.key("id"), where)
    paths = {}
    for name, cells in images.items():
        named = reading.key(name)
        for place, image in enumerate(cells, start=1):
            refuse_no_file(image, f"{where}: image {place} of {named!r}")
        paths[name] = [str(folder / as_text(image, named, where)) for image in cells]
    return problem_of(row, paths, key, where, reading)


def _image_cells(row: Mapping[str, Any], named: str, where: str) -> list[str]:
    """Return the paths under a key, one or a list of them; none if it is not there."""
    images = row.get(named, [])
    images = [images] if isinstance(images, str) else _field(row, named, where, list) if named in row else []
    for place, image in enumerate(images, start=1):
        if not isinstance(image, str) or not image.strip():
            raise ValueError(f"{where}: {named!r} must be a list of paths, image {place} is {json.dumps(image)[:40]}")
    return images


def _id(row: Mapping[str, Any], where: str) -> str:
    return id_text(_field(row, "id", where, object), "id", where)


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
                **({} if p.feedback is None else {"feedback": p.feedback}),
                **({"hints": list(p.hints)} if p.hints else {}),
                **({"teacher_images": [_relative(i, folder) for i in p.teacher_images]} if p.teacher_images else {}),
                **({"contrast_images": [_relative(i, folder) for i in p.contrast_images]} if p.contrast_images else {}),
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
        ValueError: as ``read_made_hints``.
    """
    return {key: made.what for key, made in read_made_hints(path).items()}


def read_made_hints(path: str | Path) -> dict[str, MadeFor[Hint]]:
    """Read hints JSONL into hints, with what they were made for, by problem id.

    Raises:
        ValueError: on a missing or mistyped field, or an id seen twice; names the file and the line.
    """
    hints: dict[str, MadeFor[Hint]] = {}
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        key = _id(row, where)
        if key in hints:
            raise ValueError(f"{where}: the id {key!r} is used twice")
        hints[key] = made_hint(row, where)
    return hints


def made_hint(row: Mapping[str, Any], where: str) -> MadeFor[Hint]:
    """Return the hint in a line, and what it was made for.

    Raises:
        ValueError: if it is missing or mistyped; begins with ``where``.
    """
    hint = _field(row, "hint", where, dict)
    look, reason = (as_text(_field(hint, part, where, str), part, where) for part in ("look", "reason"))
    return MadeFor(Hint(look, reason), _made_for(row))


def _made_for(row: Mapping[str, Any]) -> str:
    return str(row.get("question_hash") or "")


def write_hints(path: str | Path, hints: Mapping[str, Hint], model: str, problems: Iterable[Problem] = ()) -> None:
    """Write hints JSONL; ``model`` names what made them, and ``problems`` say for which questions."""
    hashes = _hashes(problems)
    write_jsonl(
        path,
        (
            {
                "id": key,
                "hint": {"look": h.look, "reason": h.reason},
                "model": model,
                "attempts": 1,
                "rejected": [],
                **hashes.get(key, {}),
            }
            for key, h in hints.items()
        ),
    )


def write_solutions(path: str | Path, solutions: Iterable[Solution], problems: Iterable[Problem] = ()) -> None:
    """Write solutions JSONL: id and response, and what ``problems`` say of the questions that they are for."""
    hashes = _hashes(problems)
    write_jsonl(path, ({"id": s.id, "response": s.response, **hashes.get(s.id, {})} for s in solutions))


def _hashes(problems: Iterable[Problem]) -> dict[str, dict[str, str]]:
    return {problem.id: {"question_hash": question_hash(problem)} for problem in problems}


def read_solutions(path: str | Path) -> dict[str, str]:
    """Read solutions into responses by problem id.

    Raises:
        ValueError: as ``read_made_solutions``.
    """
    return {key: made.what for key, made in read_made_solutions(path).items()}


def read_made_solutions(path: str | Path) -> dict[str, MadeFor[str]]:
    """Read solutions, with what they were made for, by problem id.

    Lines have ``response``, or are conversations in ShareGPT's form; those say which question was asked.

    Raises:
        ValueError: on a line that is neither, or an id seen twice; names the file and the line.
    """
    solutions: dict[str, MadeFor[str]] = {}
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        key = _id(row, where)
        if key in solutions:
            raise ValueError(f"{where}: the id {key!r} is used twice")
        talk = "conversations" in row
        response = _last_turn(row, where) if talk else _field(row, "response", where, str)
        first = row["conversations"][0] if talk else {}
        asked = str(first.get("value") or "") if isinstance(first, dict) else ""
        solutions[key] = MadeFor(as_text(response, "response", where), _made_for(row), asked)
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
        problem: whose id and images are stored.
        question: what the student is asked; without markers, one ``<image>`` for each image is put in front.
        response: what it should say.
        folder: images inside it are stored relative to it.
    """
    return {
        "id": problem.id,
        "conversations": [
            {"from": "human", "value": marked_text(question, len(problem.images))},
            {"from": "gpt", "value": response},
        ],
        "images": [_relative(image, folder.resolve()) for image in problem.images],
        "question_hash": question_hash(problem),
    }
