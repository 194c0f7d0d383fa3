"""Where a command writes, checked before it works for it: no output destroys an input, or what it did not make."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any

import typer

from ptdpo.folders import last_writer, write_json

# Which files of a folder were made by which command; one that was changed since is nobody's.
LEDGER = ".ptdpo.json"
MODEL_FILES = (
    "config.json", "generation_config.json", "*.safetensors", "*.index.json", "*.bin", "adapter_*", "tokenizer*",
    "*processor_config.json", "chat_template*", "checkpoint-*", "README.md",
)  # fmt: skip

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write over what this command did not make.")]


@contextmanager
def output_file(
    option: str, path: Path | None, command: str, *, inputs: Iterable[Path | str | None] = (), overwrite: bool = False
) -> Iterator[None]:
    """Guard a file while the block writes it, and note that this command made it.

    Args:
        option: how the user gave it, such as ``--out``.
        path: of the file; ``None``: nothing is written.
        command: that writes it, such as ``hints review``.
        inputs: what the command reads.
        overwrite: write over an input, or over a file that the command did not make.

    Raises:
        ValueError: if no file can be written there, or one would be destroyed.
    """
    if path is None:
        yield
        return
    refuse_unwritable_file(option, path)
    refuse_input(option, path, inputs, overwrite=overwrite)
    made = _ledger(path.parent).get(path.name)
    before = _state(path)
    if before is not None and not overwrite and made != {"command": command, **before}:
        raise ValueError(
            f"{option} {path}: is there already, and ptdpo {command} did not make it, or it was changed since: name "
            "another file, or write over it with --overwrite"
        )
    try:
        yield
    finally:
        after = _state(path)
        if after is not None and after != before:
            write_json(
                path.parent / LEDGER, {**_ledger(path.parent), path.name: {"command": command, **after}}, indent=1
            )


def _state(path: Path) -> dict[str, Any] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _ledger(folder: Path) -> Mapping[str, Any]:
    try:
        content = json.loads((folder / LEDGER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def refuse_foreign_folder(
    option: str,
    folder: Path,
    command: str,
    *,
    makes: Iterable[str],
    marks: Iterable[str] = (),
    inputs: Iterable[Path | str | None] = (),
    overwrite: bool = False,
) -> None:
    """Refuse a folder that holds what a command would write and did not make.

    Args:
        option: how the user gave it.
        folder: to be written to; may not exist.
        command: that writes, as it holds the folder with ``sole_writer``.
        makes: names that it writes there, as patterns.
        marks: files that only this command writes.
        inputs: what the command reads.
        overwrite: write over them.

    Raises:
        ValueError: if no folder can be made there, or something would be destroyed.
    """
    refuse_unwritable_folder(option, folder)
    if overwrite:
        return
    refuse_input(option, folder, inputs)
    for given in inputs:
        inside = _below(folder, given)
        if inside and any(fnmatch(inside, pattern) for pattern in makes):
            raise ValueError(f"{option} {folder}: {given} is read by this command and lies where it writes: {_REMEDY}")
    writer = last_writer(folder)
    if (writer is not None and writer.command == command) or any((folder / name).exists() for name in marks):
        return
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    for name in names:
        if any(fnmatch(name, pattern) for pattern in makes):
            raise ValueError(f"{option} {folder}: holds {name}, which ptdpo {command} did not make: {_REMEDY}")


_REMEDY = "name another folder, or write over it with --overwrite"


def _below(folder: Path, given: Path | str | None) -> str:
    """Return the first name below the folder on the way to a path, empty if it lies elsewhere."""
    if not given or not folder.is_dir():
        return ""
    path, root = Path(given).resolve(), folder.resolve()
    return path.relative_to(root).parts[0] if path.is_relative_to(root) and path != root else ""


def refuse_input(option: str, path: Path, inputs: Iterable[Path | str | None], *, overwrite: bool = False) -> None:
    """Refuse to write what is read.

    Raises:
        ValueError: if ``path`` is one of the inputs, whatever it is called there.
    """
    for given in inputs:
        if given and not overwrite and path.exists() and Path(given).exists() and path.samefile(given):
            raise ValueError(
                f"{option} {path}: is what this command reads; name another, or write over it with --overwrite"
            )


def refuse_inputs_of_job(out: Path, inputs: Iterable[Path | None], *, overwrite: bool) -> None:
    """Refuse a job over a server whose output, or a file beside it, is what it reads or was made by others.

    Raises:
        ValueError: naming the file.
    """
    from ptdpo.chat.jobs import WorkFiles

    refuse_unwritable_file("--out", out)
    files = WorkFiles.beside(out)
    for path in (files.out, files.requests, files.failed, files.reviews):
        refuse_input("--out", path, inputs, overwrite=overwrite)
    if not overwrite:
        files.refuse_foreign()


def refuse_unwritable_file(option: str, path: Path) -> None:
    """Refuse a path at which no file can be written.

    Args:
        option: how the user gave it, such as ``--out``.
        path: of the file.

    Raises:
        ValueError: if it is a folder, or lies inside a file.
    """
    if path.is_dir():
        raise ValueError(f"{option} {path}: is a folder; name a file")
    _refuse_file_above(option, path)


def refuse_unwritable_folder(option: str, path: Path) -> None:
    """Refuse a path at which no folder can be made or filled.

    Args:
        option: how the user gave it, such as ``--out``.
        path: of the folder.

    Raises:
        ValueError: if it is a file, or lies inside one.
    """
    if path.is_file():
        raise ValueError(f"{option} {path}: is a file; name a folder")
    _refuse_file_above(option, path)


def _refuse_file_above(option: str, path: Path) -> None:
    for parent in path.parents:
        if parent.is_file():
            raise ValueError(f"{option} {path}: {parent} is a file, not a folder")
