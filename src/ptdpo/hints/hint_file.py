"""The hints file that a build appends to: which problems have a hint, and for which question it was made."""

import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from ptdpo.data.files import read_jsonl, write_jsonl
from ptdpo.hints.store import AppendOnlyFile
from ptdpo.records import Hint


class HintFile:
    """A hints file, open for appending by one process. Holds ids and places, not the hints.

    A torn last line is cut off when the file is opened. Use as a context manager.

    Raises:
        ValueError: if the file is in use or a line is not a hint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()

    def _open(self) -> None:
        self._file = AppendOnlyFile(self.path)
        self._lines = self.path.open("rb")
        self._known: dict[str, tuple[int, str]] = {}
        try:
            self._index()
        except ValueError:
            self._close()
            raise

    def _index(self) -> None:
        place = 0
        for number, line in enumerate(self._lines, start=1):
            problem_id, _, question = _parse(line, f"{self.path}:{number}")
            self._known[problem_id] = (place, question)
            place += len(line)

    def __contains__(self, problem_id: str) -> bool:
        return problem_id in self._known

    def __len__(self) -> int:
        return len(self._known)

    def hint_of(self, problem_id: str) -> Hint:
        """Return the hint of a problem.

        Raises:
            ValueError: if it has none.
        """
        if problem_id not in self._known:
            raise ValueError(f"{self.path}: there is no hint for the id {problem_id!r}")
        self._lines.seek(self._known[problem_id][0])
        return _parse(self._lines.readline(), str(self.path))[1]

    def question_of(self, problem_id: str) -> str:
        """Return the hash of the question that the hint was made for; empty if the line does not say."""
        return self._known[problem_id][1]

    def append(self, problem_id: str, hint: Hint, more: dict[str, Any]) -> None:
        """Add the hint of a problem that has none."""
        assert problem_id not in self._known
        place = self._file.append({"id": problem_id, "hint": {"look": hint.look, "reason": hint.reason}, **more})
        self._known[problem_id] = (place, str(more.get("question_hash", "")))

    def drop(self, ids: Iterable[str]) -> None:
        """Remove the lines of these problems; the file is replaced in one step."""
        gone = set(ids)
        if gone:
            self._close()
            write_jsonl(self.path, (row for _, row in read_jsonl(self.path) if str(row["id"]) not in gone))
            self._open()

    def _close(self) -> None:
        self._lines.close()
        self._file.close()

    def __enter__(self) -> "HintFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()


def _parse(line: bytes, where: str) -> tuple[str, Hint, str]:
    """Return id, hint and question hash of a line."""
    try:
        row = json.loads(line)
        hint = Hint(row["hint"]["look"], row["hint"]["reason"])
        return str(row["id"]), hint, str(row.get("question_hash", ""))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{where}: not a hint; give another --out, or remove the line") from error
