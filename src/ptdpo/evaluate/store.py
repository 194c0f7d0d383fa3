"""The responses of a benchmark as JSONL that grows batch by batch and survives a kill at any moment."""

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ptdpo.chat.store import AppendOnlyFile
from ptdpo.evaluate.settings import RESPONSES


@dataclass(frozen=True, slots=True)
class UngradedResponse:
    """What a model answered to one question, not graded yet: see ``GradedResponse``."""

    id: str
    sample: int
    response: str
    tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class GradedResponse:
    """One line of ``responses.jsonl``.

    Attributes:
        id: of the question.
        sample: number of the sample, from 0.
        response: what the model wrote.
        extracted: the answer that was graded, ``None`` if there is none.
        accuracy: 1.0 or 0.0.
        format: 1.0 or 0.0.
        tokens: length of the response, the end token included.
        truncated: whether the response was cut at the longest length.
        fallback: where the answer was found, as in ``Verdict``.
        second: math-verify's opinion of the accuracy, ``None`` if it was not asked or has none.
        note: why there is no proper verdict, such as a time-out; "" otherwise.
    """

    id: str
    sample: int
    response: str
    extracted: str | None
    accuracy: float
    format: float
    tokens: int
    truncated: bool
    fallback: str = "boxed"
    second: float | None = None
    note: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """Return question and sample."""
        return self.id, self.sample


class ResponseStore:
    """The responses of one benchmark in a file."""

    def __init__(self, folder: Path) -> None:
        """Use ``responses.jsonl`` of the folder."""
        self.path = folder / RESPONSES
        self._file: AppendOnlyFile | None = None

    def read(self, expected: Collection[str] | None = None, samples: int | None = None) -> list[GradedResponse]:
        """Return what is there.

        Args:
            expected: ids of the questions; another one is refused.
            samples: how many samples are asked for; a higher number is refused.

        Raises:
            ValueError: on a line that is not a response, appears twice or belongs to no question; names the line.
        """
        if not self.path.is_file():
            return []
        rows: dict[tuple[str, int], GradedResponse] = {}
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                where = f"{self.path}:{number}"
                row = _parse(line, where)
                if row.key in rows:
                    raise ValueError(f"{where}: sample {row.sample} of {row.id!r} is there twice")
                if expected is not None and row.id not in expected:
                    raise ValueError(f"{where}: {row.id!r} is no question of this benchmark")
                if samples is not None and row.sample not in range(samples):
                    raise ValueError(f"{where}: sample {row.sample} of {row.id!r}, but {samples} are asked for")
                rows[row.key] = row
        return list(rows.values())

    def __enter__(self) -> "ResponseStore":
        """Open for writing: keep other processes out, and cut off a line that a killed one left half-written.

        Raises:
            ValueError: if another process is writing there.
        """
        self._file = AppendOnlyFile(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        """Let the file go."""
        assert self._file is not None
        self._file.close()
        self._file = None

    def append(self, responses: Iterable[GradedResponse]) -> None:
        """Add lines; when this returns, the death of the process loses none of them."""
        assert self._file is not None, "open the store first"
        for response in responses:
            self._file.append(asdict(response))


def _parse(line: bytes, where: str) -> GradedResponse:
    try:
        row: dict[str, Any] = json.loads(line.decode("utf-8"))
        response = GradedResponse(**{f.name: row[f.name] for f in fields(GradedResponse)})
        _check_types(response)
        return response
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{where}: not a response ({type(error).__name__}: {error})") from error


def _check_types(response: GradedResponse) -> None:
    kinds: dict[str, Any] = {
        "id": str, "sample": int, "response": str, "extracted": str | None, "tokens": int, "truncated": bool,
        "fallback": str, "note": str, "accuracy": int | float, "format": int | float, "second": int | float | None,
    }  # fmt: skip
    for name, kind in kinds.items():
        value = getattr(response, name)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise TypeError(f"{name} is {type(value).__name__} {str(value)[:40]!r}")
    for name in ("accuracy", "format", "second"):
        value = getattr(response, name)
        # Of NaN no comparison holds.
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}: must be in [0, 1]")
