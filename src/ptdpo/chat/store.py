"""Every answered request, kept in an append-only JSONL file, so that nothing is paid for twice."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from ptdpo.chat.replies import check_reply
from ptdpo.chat.requests import ChatReply, ChatRequest
from ptdpo.folders import lock, write_whole

_KEY = b'{"key": "'
_KEY_LENGTH = 64


def repair_last_line(path: Path) -> int:
    """Cut off a last line without its line break, as a killed process leaves it; return the bytes removed."""
    if not path.is_file():
        return 0
    with path.open("rb+") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65_536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline != -1:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)
        return size - end


class AppendOnlyFile:
    """A JSONL file that one process at a time appends to; each line is with the system before ``append`` returns.

    Raises:
        ValueError: if another process has it open, or it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise ValueError(f"{self.path}: cannot be written ({error.strerror})") from error
        if not lock(self._fd):
            os.close(self._fd)
            raise ValueError(f"{self.path}: another run is writing this file; wait for it or stop it")
        self.repaired = repair_last_line(self.path)
        self._end = os.lseek(self._fd, 0, os.SEEK_END)

    def append(self, row: Mapping[str, Any]) -> int:
        """Append one object and return the place of its line.

        Raises:
            OSError: if the disk is full or broken, or somebody removed the file; it is as it was before.
        """
        line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
        place = self._end
        write_whole(self._fd, self.path, line)
        self._end = place + len(line)
        return place

    def close(self) -> None:
        """Write through to the disk and let the file go.

        Raises:
            OSError: if the disk is broken, or somebody removed the file.
        """
        try:
            write_whole(self._fd, self.path, b"")
            os.fsync(self._fd)
        finally:
            os.close(self._fd)


class RequestStore:
    """Answered requests by content hash. Holds 64 characters and a file position per answer, not the answers.

    A torn last line is cut off when the file is opened. A line elsewhere that is broken, or holds a reply with a field
    of the wrong kind, counts as not answered; the new answer takes its place.
    Use as a context manager.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = AppendOnlyFile(path)
        self._places: dict[bytes, int] = {}
        self._lines: BinaryIO = Path(path).open("rb")  # noqa: SIM115  (closed with the store)
        place = 0
        for line in self._lines:
            if line.startswith(_KEY):
                self._places[line[len(_KEY) : len(_KEY) + _KEY_LENGTH]] = place
            place += len(line)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def repaired(self) -> int:
        """Bytes of a torn last line that were cut off on opening."""
        return self._file.repaired

    def get(self, key: str) -> ChatReply | None:
        """Return the reply kept under a key, or ``None``."""
        place = self._places.get(key.encode())
        if place is None:
            return None
        self._lines.seek(place)
        try:
            reply = ChatReply(**json.loads(self._lines.readline())["reply"])
            check_reply(reply)
        except (ValueError, KeyError, TypeError):
            return None
        return reply

    def add(self, key: str, request: ChatRequest, reply: ChatReply) -> None:
        """Keep a reply; when this returns, the death of the process does not lose it."""
        assert len(key) == _KEY_LENGTH
        who = {"id": request.id, "sample": request.sample, "model": request.model, "prompt": request.prompt_version}
        self._places[key.encode()] = self._file.append({"key": key, **who, "reply": asdict(reply)})

    def __enter__(self) -> "RequestStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._file.close()
