"""What people decided about hints: accepted ones stay whatever the checks say, rejected ones never come back."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from ptdpo.chat.jobs import WorkFiles
from ptdpo.chat.store import AppendOnlyFile
from ptdpo.data.files import read_jsonl
from ptdpo.data.rows import as_text
from ptdpo.folders import regular_file
from ptdpo.records import Hint

BY_REVIEWER = "a reviewer rejected this hint"


class Decisions:
    """The decisions of all reviews applied so far, kept beside the hints file, so that a killed run remembers them.

    A list is applied once: the same list again changes nothing. Use as a context manager.
    """

    def __init__(self, path: Path) -> None:
        self.accepted: set[str] = set()
        self._rejected: dict[str, dict[Hint, str]] = {}
        self._applied: set[str] = set()
        self._path = path
        self._file: AppendOnlyFile | None = None
        if path.is_file():
            self._open()
            for _, row in read_jsonl(path):
                self._take(row)

    @classmethod
    def beside(cls, hints: Path) -> "Decisions":
        """Return the decisions about a hints file."""
        return cls(WorkFiles.beside(hints).reviews)

    def reason_against(self, problem_id: str, hint: Hint) -> str | None:
        """Return why this very hint was rejected, or ``None`` if it was not."""
        return self._rejected.get(problem_id, {}).get(hint)

    def count(self, problem_id: str) -> int:
        """How many hints of a problem reviewers have rejected."""
        return len(self._rejected.get(problem_id, ()))

    def apply(self, path: Path, hint_of: Callable[[str], Hint]) -> None:
        """Take over a list ``{"accepted": [ids], "rejected": [ids]}``, unless it was taken over before.

        ``"reasons": {id: text}`` may say why; the next hint writer is told.

        Args:
            path: the list, as downloaded from the review page.
            hint_of: returns the hint that an id has now.

        Raises:
            ValueError: if the file is not such a list, or rejects an id without a hint.
        """
        accepted, rejected, reasons, digest = _read_review(path)
        if digest in self._applied:
            return
        rows: list[dict[str, Any]] = [
            {"rejected": i, "hint": asdict(hint_of(i)), "reason": str(reasons.get(i) or BY_REVIEWER)} for i in rejected
        ]
        rows += [{"accepted": i} for i in accepted]
        for row in (*rows, {"applied": digest, "file": path.name}):
            self._open().append(row)
            self._take(row)

    def _open(self) -> AppendOnlyFile:
        self._file = self._file or AppendOnlyFile(self._path)
        return self._file

    def _take(self, row: dict) -> None:
        if "rejected" in row:
            hint = Hint(row["hint"]["look"], row["hint"]["reason"])
            self._rejected.setdefault(row["rejected"], {})[hint] = row["reason"]
            self.accepted.discard(row["rejected"])
        elif "accepted" in row:
            self.accepted.add(row["accepted"])
        else:
            self._applied.add(row["applied"])

    def __enter__(self) -> "Decisions":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


def _read_review(path: Path) -> tuple[list[str], list[str], dict[str, str], str]:
    try:
        content = regular_file(path, "review").read_bytes()
        lists = json.loads(content)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: the review cannot be read ({error})") from error
    if not isinstance(lists, dict) or not {"accepted", "rejected"} & lists.keys():
        raise ValueError(f'{path}: a review is {{"accepted": [ids], "rejected": [ids]}}')
    accepted, rejected = (_ids(lists.get(name, []), name, path) for name in ("accepted", "rejected"))
    both = set(accepted) & set(rejected)
    if both:
        raise ValueError(f"{path}: accepted and rejected at once: {', '.join(sorted(both)[:10])}")
    reasons = lists.get("reasons") or {}
    if not isinstance(reasons, dict):
        raise ValueError(f"{path}: 'reasons' must be an object with a text for each id")
    return accepted, rejected, reasons, hashlib.sha256(content).hexdigest()


def _ids(listed: Any, name: str, path: Path) -> list[str]:
    if not isinstance(listed, list):
        raise ValueError(f"{path}: {name!r} must be a list of ids, found {type(listed).__name__}")
    return [as_text(one, name, str(path)) for one in listed]
