"""What people decided about hints: accepted ones stay whatever the checks say, rejected ones never come back.

An edited hint takes the place of the one that was edited, and counts as accepted.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True, slots=True)
class Review:
    """A list as downloaded from the review page.

    Attributes:
        accepted: ids.
        rejected: ids.
        reasons: why a hint was rejected, by id.
        edited: what hints became, by id; their ids are accepted.
        digest: of the file.
    """

    accepted: Sequence[str]
    rejected: Sequence[str]
    reasons: Mapping[str, str]
    edited: Mapping[str, Hint]
    digest: str


class Decisions:
    """The decisions of all reviews applied so far, kept beside the hints file, so that a killed run remembers them.

    A list is applied once: the same list again changes nothing. Use as a context manager.
    """

    def __init__(self, path: Path) -> None:
        self.accepted: set[str] = set()
        self._rejected: dict[str, dict[Hint, str]] = {}
        self._edited: dict[str, tuple[Hint, Hint]] = {}
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

    @property
    def edited_ids(self) -> Sequence[str]:
        """Return the ids of hints that were ever edited."""
        return list(self._edited)

    def edit_of(self, problem_id: str, hint: Hint) -> Hint | None:
        """Return what this very hint was last edited to, or ``None`` if it was not."""
        before, after = self._edited.get(problem_id, (None, None))
        return after if before == hint else None

    def apply(self, path: Path, hint_of: Callable[[str], Hint]) -> None:
        """Take over a list ``{"accepted": [ids], "rejected": [ids]}``, unless it was taken over before.

        ``"reasons": {id: text}`` may say why; the next hint writer is told. ``"edited": {id: {"look", "reason"}}`` puts
        another hint in the place of the one there is.

        Args:
            path: the list, as downloaded from the review page.
            hint_of: returns the hint that an id has now.

        Raises:
            ValueError: if the file is not such a list, or rejects or edits an id without a hint.
        """
        review = read_review(path)
        if review.digest in self._applied:
            return
        rows: list[dict[str, Any]] = [
            {"rejected": i, "hint": asdict(hint_of(i)), "reason": review.reasons.get(i) or BY_REVIEWER}
            for i in review.rejected
        ]
        rows += [{"edited": i, "hint": asdict(hint_of(i)), "to": asdict(to)} for i, to in review.edited.items()]
        rows += [{"accepted": i} for i in review.accepted]
        for row in (*rows, {"applied": review.digest, "file": path.name}):
            self._open().append(row)
            self._take(row)

    def _open(self) -> AppendOnlyFile:
        self._file = self._file or AppendOnlyFile(self._path)
        return self._file

    def _take(self, row: Mapping[str, Any]) -> None:
        if "rejected" in row:
            hint = Hint(row["hint"]["look"], row["hint"]["reason"])
            self._rejected.setdefault(row["rejected"], {})[hint] = row["reason"]
            self.accepted.discard(row["rejected"])
        elif "edited" in row:
            to = Hint(**row["to"])
            self._edited[row["edited"]] = Hint(**row["hint"]), to
            # Whoever wrote it now thinks better of it.
            self._rejected.get(row["edited"], {}).pop(to, None)
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


def read_review(path: Path) -> Review:
    """Read a list of decisions.

    Raises:
        ValueError: if the file cannot be read, is no such list, or contradicts itself; names it.
    """
    try:
        content = regular_file(path, "review").read_bytes()
        lists = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the review cannot be read ({error})") from error
    if not isinstance(lists, dict) or not {"accepted", "rejected", "edited"} & lists.keys():
        raise ValueError(f'{path}: a review is {{"accepted": [ids], "rejected": [ids]}}')
    accepted, rejected = (_ids(lists.get(name, []), name, path) for name in ("accepted", "rejected"))
    edited = {i: _edited(i, hint, path) for i, hint in _by_id(lists, "edited", path).items()}
    accepted = list(dict.fromkeys([*accepted, *edited]))
    both = set(accepted) & set(rejected)
    if both:
        raise ValueError(f"{path}: accepted and rejected at once: {', '.join(sorted(both)[:10])}")
    reasons = {i: str(why) for i, why in _by_id(lists, "reasons", path).items() if why}
    return Review(accepted, rejected, reasons, edited, hashlib.sha256(content).hexdigest())


def _by_id(lists: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    found = lists.get(name) or {}
    if not isinstance(found, dict):
        raise ValueError(f"{path}: {name!r} must be an object with an entry for each id")
    return found


def _edited(problem_id: str, hint: Any, path: Path) -> Hint:
    parts = [hint.get(name) for name in ("look", "reason")] if isinstance(hint, dict) else []
    texts = [part.strip() for part in parts if isinstance(part, str) and part.strip()]
    if len(texts) != 2:
        raise ValueError(f"{path}: edited.{problem_id}: an edited hint needs text in 'look' and in 'reason'")
    return Hint(*texts)


def _ids(listed: Any, name: str, path: Path) -> list[str]:
    if not isinstance(listed, list):
        raise ValueError(f"{path}: {name!r} must be a list of ids, found {type(listed).__name__}")
    return [as_text(one, name, str(path)) for one in listed]
