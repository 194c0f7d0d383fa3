"""Files and folders that commands write: whole or not at all, by one writer, with what they were made with."""

import errno
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

# The one command whose processes share a folder; the first of them holds it.
TRAINING = "train"
LOCK = ".lock"
_NOTHING = "nothing"


# -- written whole or not at all -------------------------------------------------------------------------------


@contextmanager
def replacing(path: str | Path, *, shared: bool = False) -> Iterator[Path]:
    """Yield the name of a file beside ``path`` to write; it takes the place of ``path`` when the block ends.

    If the block raises, what was at ``path`` stays and the file beside it goes.

    Args:
        path: of the file; its folder is made.
        shared: several processes may write the same content at once, as images named by their content are. Those
            are not forced to the disk one by one.

    Raises:
        OSError: naming ``path``, if it cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{uuid4().hex}.partial" if shared else f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if not shared:
            flush(partial)
        partial.replace(path)
    except OSError as error:
        _remove(partial)
        # A full disk names no file, and the partial one is not the user's.
        if error.errno is None or error.filename not in (None, str(partial), partial):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        _remove(partial)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write a file that is either as it was before or whole.

    Raises:
        OSError: naming ``path``, if it cannot be written.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any, *, indent: int | None = None) -> None:
    """Write JSON that is either as it was before or whole, and ends with a line break.

    Raises:
        OSError: naming ``path``, if it cannot be written.
        ValueError: if there is a NaN in it, which JSON does not have.
    """
    write_text(path, json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside ``path`` to fill; it takes the place of ``path`` when the block ends.

    If the block raises, what was at ``path`` stays. What an earlier process left beside it goes first.

    Raises:
        OSError: if it cannot be made or put in place.
    """
    partial = staging(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    put_in_place(partial, path)


def staging(path: Path) -> Path:
    """Return the folder beside ``path`` that is filled before it takes its place."""
    return path.with_name(f"{path.name}.partial")


def put_in_place(filled: Path, path: Path) -> None:
    """Rename a filled folder to ``path``, forced to the disk; what was there goes.

    Raises:
        OSError: if that fails; then the one or the other is there.
    """
    before = path.with_name(f"{path.name}.before")
    for file in filled.rglob("*"):
        flush(file)
    flush(filled)
    if path.exists():
        shutil.rmtree(before, ignore_errors=True)
        path.rename(before)
    filled.rename(path)
    flush(path.parent)
    shutil.rmtree(before, ignore_errors=True)


def flush(path: Path) -> None:
    """Force a file, or the names in a folder, from memory to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def append_line(path: Path, line: str) -> None:
    """Add a line to a file; if that fails the file is as it was.

    Raises:
        OSError: naming the file.
    """
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        write_whole(number, path, f"{line}\n".encode())
    finally:
        os.close(number)


def write_whole(number: int, path: Path, content: bytes) -> None:
    """Write everything to the end of an open file, or nothing.

    Raises:
        OSError: naming the file, if the disk is full or broken, or the file is no longer at its path.
    """
    end = os.fstat(number).st_size
    try:
        # Writing to a file that somebody has removed succeeds, and nothing is kept.
        if not os.path.samestat(os.stat(path), os.fstat(number)):
            raise FileNotFoundError(errno.ENOENT, "is no longer the file that was opened", str(path))
        rest = content
        while rest:
            rest = rest[os.write(number, rest) :]
    except OSError as error:
        with suppress(OSError):
            # The next line must not be glued to half of this one.
            os.ftruncate(number, end)
        raise OSError(error.errno, error.strerror, str(path)) from error


def regular_file(path: str | Path, kind: str = "file") -> Path:
    """Return a path at which there is a regular file: a pipe or a device may hold what reads it for ever.

    Raises:
        ValueError: if there is none.
    """
    path = Path(path)
    try:
        there = path.exists()
    except OSError as error:
        raise ValueError(f"{str(path)[:200]}: no such {kind} ({error.strerror})") from error
    if not there:
        raise ValueError(f"{path}: no such {kind}")
    if not path.is_file():
        article = "an" if kind[0] in "aeiou" else "a"
        raise ValueError(f"{path}: is a folder, a pipe or a device, not {article} {kind}")
    return path


# -- one writer at a time --------------------------------------------------------------------------------------


class HeldFolder:
    """A folder that one command writes to; another may take its place, or nothing, while that goes on."""

    def __init__(self, folder: Path, command: str) -> None:
        self._folder, self._command = folder, command
        self._held = folder.stat()

    def check(self) -> None:
        """Refuse to go on in a folder that was removed, also if it was made again since.

        Raises:
            ValueError: says so.
        """
        try:
            same = os.path.samestat(self._folder.stat(), self._held)
        except OSError:
            same = False
        if not same:
            raise ValueError(
                f"{self._folder}: was removed while ptdpo {self._command} was writing there; what is there now lacks "
                "what was in it: delete it, and run the same command again"
            )


@contextmanager
def sole_writer(folder: str | Path, command: str) -> Iterator[HeldFolder]:
    """Hold a folder while the block lasts; it is made if it is not there.

    The lock ends with the process, however that ends; the file that stays says who held it last.

    Args:
        folder: to be written to.
        command: what writes, such as ``train``.

    Raises:
        ValueError: if another process holds it, and says which; if the folder was removed while the block lasted; if
            several processes were launched, and it is not training.
        OSError: if the folder cannot be made or written to.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > 1 and command != TRAINING:
        raise ValueError(
            f"{command} runs in one process, but {launched} were launched: start it without torchrun or accelerate "
            "launch"
        )
    path = Path(folder) / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        if not lock(file.fileno()):
            raise ValueError(
                f"{folder}: {_holder(path)} is writing there; wait for it, stop it, or take another folder"
            )
        file.truncate(0)
        writer = json.dumps(asdict(Writer.this(command)), ensure_ascii=False)
        write_whole(file.fileno(), path, f"{writer}\n".encode())
        held = HeldFolder(path.parent, command)
        yield held
        held.check()


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes to a folder: what it does, the process, the machine, and since when."""

    command: str
    pid: int
    host: str
    since: str

    @classmethod
    def this(cls, command: str) -> "Writer":
        """Return the record of this process."""
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        return cls(command, os.getpid(), socket.gethostname(), since)


def last_writer(folder: str | Path) -> Writer | None:
    """Return who held a folder last, or ``None`` if it is not known."""
    try:
        return Writer(**json.loads((Path(folder) / LOCK).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _holder(path: Path) -> str:
    writer = last_writer(path.parent)
    if writer is None:
        return "another process"
    return f"ptdpo {writer.command} (process {writer.pid} on {writer.host}, since {writer.since})"


def lock(number: int) -> bool:
    """Lock an open file for this process alone; ``False`` if another holds it. The lock ends when it is closed.

    A child that was forked while the lock was held does not prolong it: it lets the file go.
    """
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    _HELD.add(_identity(number))
    return True


_HELD: set[tuple[int, int, int]] = set()


def _identity(number: int) -> tuple[int, int, int]:
    status = os.fstat(number)
    return number, status.st_dev, status.st_ino


def _let_go() -> None:
    for held in _HELD:
        with suppress(OSError):
            if _identity(held[0]) == held:
                os.close(held[0])


os.register_at_fork(after_in_child=_let_go)


# -- what it was made with -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChangedSetting:
    """A setting whose value differs: the value that something was made with, and the one that is asked for."""

    name: str
    made: Any
    asked: Any


def flat(content: object, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings and dataclasses by their dotted names."""
    if is_dataclass(content) and not isinstance(content, type):
        content = asdict(content)
    if not isinstance(content, Mapping):
        return {prefix: content}
    leaves: dict[str, Any] = {}
    for key, value in content.items():
        leaves |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return leaves


def differences(made: object, asked: object) -> list[ChangedSetting]:
    """Return what differs between two nested mappings or dataclasses, in their order."""
    before, after = flat(made), flat(asked)
    return [
        ChangedSetting(name, before.get(name, _NOTHING), after.get(name, _NOTHING))
        for name in dict.fromkeys([*before, *after])
        if before.get(name, _NOTHING) != after.get(name, _NOTHING)
    ]


def refuse_other(path: Path, found: list[ChangedSetting], remedy: str) -> None:
    """Refuse what was made with other settings: it would count for what is asked now.

    Raises:
        ValueError: if there is a difference; names each with both values.
    """
    if found:
        made = ", ".join(f"{one.name}={one.made!r}" for one in found)
        asked = ", ".join(f"{one.name}={one.asked!r}" for one in found)
        raise ValueError(f"{path}: made with {made}, but now {asked} is asked for: {remedy}")


def read_claim(path: Path) -> dict[str, Any] | None:
    """Return what a claim says, ``None`` if there is none.

    Raises:
        ValueError: if it is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: does not say what the folder was made with ({error}); delete it") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: does not say what the folder was made with; delete it")
    return content


def claim(path: Path, content: Mapping[str, Any], remedy: str) -> None:
    """Write down what a folder is made with, unless that is there already.

    Args:
        path: of the JSON file that says it.
        content: of strings, numbers, lists and mappings.
        remedy: what to do, the end of the message.

    Raises:
        ValueError: if it says something else.
    """
    asked = json.loads(json.dumps(content))
    made = read_claim(path)
    if made is None:
        write_json(path, asked, indent=1)
    else:
        refuse_other(path, differences(made, asked), remedy)
