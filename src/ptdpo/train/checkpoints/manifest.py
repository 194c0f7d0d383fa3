"""The list of a checkpoint's files, written last and checked before anything is read; damaged ones are set aside."""

import hashlib
import json
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from ptdpo.folders import write_json

MANIFEST = "manifest.json"
_NAME = re.compile(r"checkpoint-(\d+)")
_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file as it was saved: its size in bytes and its hash."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RowLayout:
    """How the rows of a generation lie over processes and micro-batches; rollouts fit the layout they were made in."""

    processes: int
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    steps_per_generation: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a checkpoint holds.

    Attributes:
        step: the optimiser steps that were done.
        resumable: whether optimiser and random state are in it; ``False`` with ``save_only_model``.
        inside_generation: whether rollouts that it holds are still to be trained on.
        layout: of the run that saved it.
        files: by their paths below the checkpoint.
    """

    step: int
    resumable: bool
    inside_generation: bool
    layout: RowLayout
    files: dict[str, SavedFile]


def write_manifest(folder: Path, *, step: int, resumable: bool, inside_generation: bool, layout: RowLayout) -> Manifest:
    """List every file of a checkpoint.

    Raises:
        OSError: if a file cannot be read, or the list not written.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        saved = list(pool.map(_saved, paths))
    files = {path.relative_to(folder).as_posix(): one for path, one in zip(paths, saved, strict=True)}
    manifest = Manifest(step, resumable, inside_generation, layout, files)
    write_json(folder / MANIFEST, asdict(manifest), indent=1)
    return manifest


def _saved(path: Path) -> SavedFile:
    return SavedFile(path.stat().st_size, _hash(path))


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Return the list of a checkpoint's files.

    Raises:
        ValueError: if it has none, or it is not one; begins with the folder.
    """
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = {str(name): SavedFile(int(one["bytes"]), str(one["sha256"])) for name, one in content["files"].items()}
        return Manifest(
            int(content["step"]),
            bool(content["resumable"]),
            bool(content["inside_generation"]),
            RowLayout(**content["layout"]),
            files,
        )
    except FileNotFoundError as error:
        raise ValueError(f"{folder}: has no {MANIFEST}: it was not saved to its end, or not by ptdpo") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder}: its {MANIFEST} cannot be read ({type(error).__name__}: {error})") from error


def check_whole(folder: Path, *, content: bool = True) -> Manifest:
    """Return the manifest of a checkpoint whose files are as they were saved.

    Args:
        folder: the checkpoint.
        content: compare hashes too, not only names and sizes.

    Raises:
        ValueError: naming the folder and the first file that is missing or has changed.
    """
    manifest = read_manifest(folder)
    for name, saved in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{folder}: {name} is missing")
        if path.stat().st_size != saved.bytes:
            raise ValueError(f"{folder}: {name} has {path.stat().st_size} bytes, saved were {saved.bytes}")
    if content:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            found = pool.map(_hash, [folder / name for name in manifest.files])
            for (name, saved), digest in zip(manifest.files.items(), found, strict=True):
                if digest != saved.sha256:
                    raise ValueError(f"{folder}: {name} has changed since it was saved")
    return manifest


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, the newest first."""
    if not folder.is_dir():
        return []
    found = [(int(name[1]), path) for path in folder.iterdir() if (name := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def newest_whole(folder: Path, tell: Callable[[str], None]) -> Path | None:
    """Return the newest checkpoint whose files are as they were saved, ``None`` if there is no checkpoint at all.

    Damaged ones that are newer get another name, ``damaged-checkpoint-N``: nothing is deleted.

    Args:
        folder: of the run.
        tell: gets one line for each that is set aside.

    Raises:
        ValueError: if there are checkpoints and none is whole; all stay where they are.
    """
    faults: list[tuple[Path, str]] = []
    for path in checkpoints_in(folder):
        try:
            check_whole(path)
        except ValueError as error:
            faults.append((path, str(error)))
            continue
        for damaged, fault in faults:
            tell(f"{fault}; set aside as {_set_aside(damaged).name}; going on from {path.name}")
        return path
    if faults:
        more = f" (and {len(faults) - 1} older ones are damaged too)" if len(faults) > 1 else ""
        raise ValueError(
            f"{faults[0][1]}{more}: no whole checkpoint is left to go on from; delete the checkpoints in {folder} to "
            "train anew, or take another output_dir"
        )
    return None


def _set_aside(path: Path) -> Path:
    aside = path.with_name(f"damaged-{path.name}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"damaged-{path.name}-{number}")
    return path.rename(aside)
