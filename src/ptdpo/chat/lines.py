"""An output file with one line per problem: appended to, found again by id."""

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from ptdpo.chat.store import AppendOnlyFile
from ptdpo.data.files import read_jsonl, write_jsonl
from ptdpo.data.rows import as_text


class KeyedLines:
    """A JSONL file with one object per id, open for appending by one process. Use as a context manager.

    A torn last line is cut off when the file is opened. Ids, places and tags are held in memory, not the lines.

    Args:
        path: of the file.
        tag: checks a line and returns a short text to remember it by; may raise ``ValueError`` or ``KeyError``.

    Raises:
        ValueError: if the file is in use, or a line is not of the right kind.
    """

    def __init__(self, path: Path, tag: Callable[[Mapping[str, Any]], str]) -> None:
        self.path, self._tag = path, tag
        self._open()

    def _open(self) -> None:
        self._refuse_foreign_end()
        self._file = AppendOnlyFile(self.path)
        self._lines = self.path.open("rb")
        self._known: dict[str, tuple[int, str]] = {}
        try:
            self._index()
        except ValueError:
            self._close()
            raise

    def _refuse_foreign_end(self) -> None:
        """Opening cuts off a last line without its line break: a torn one of ours, never a whole one of others."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                # Whole lines are checked when the file is open.
                if not line.endswith(b"\n"):
                    with suppress(json.JSONDecodeError, UnicodeDecodeError):
                        self._check(json.loads(line), number)

    def _check(self, row: Any, number: int) -> tuple[str, str]:
        try:
            return as_text(row["id"], "id"), self._tag(row)
        except (ValueError, KeyError, TypeError) as error:
            raise self._foreign(number, error) from error

    def _foreign(self, number: int, error: Exception) -> ValueError:
        return ValueError(
            f"{self.path}:{number}: not a line that this command writes ({error}); "
            "give another --out, or remove the line"
        )

    def _index(self) -> None:
        place = 0
        for number, line in enumerate(self._lines, start=1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise self._foreign(number, error) from error
            name, tag = self._check(row, number)
            self._known[name] = (place, tag)
            place += len(line)

    def __contains__(self, problem_id: str) -> bool:
        return problem_id in self._known

    def __len__(self) -> int:
        return len(self._known)

    def tag_of(self, problem_id: str) -> str:
        """Return the tag of an id that is there."""
        return self._known[problem_id][1]

    def row_of(self, problem_id: str) -> dict[str, Any]:
        """Return the line of an id.

        Raises:
            ValueError: if there is none.
        """
        if problem_id not in self._known:
            raise ValueError(f"{self.path}: there is no line with the id {problem_id!r}")
        self._lines.seek(self._known[problem_id][0])
        return json.loads(self._lines.readline())

    def append(self, row: Mapping[str, Any]) -> None:
        """Add the line of an id that has none; when this returns, the death of the process does not lose it."""
        assert row["id"] not in self._known
        self._known[row["id"]] = (self._file.append(row), self._tag(row))

    def drop(self, ids: Iterable[str]) -> None:
        """Remove the lines of these ids; the file is replaced in one step."""
        gone = set(ids)
        if gone:
            self._close()
            write_jsonl(self.path, (row for _, row in read_jsonl(self.path) if str(row["id"]) not in gone))
            self._open()

    def replace(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Put other lines in the places of those of their ids; the file is replaced in one step."""
        if rows:
            self._close()
            write_jsonl(self.path, (rows.get(str(row["id"]), row) for _, row in read_jsonl(self.path)))
            self._open()

    def _close(self) -> None:
        self._lines.close()
        self._file.close()

    def __enter__(self) -> "KeyedLines":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
