"""Where a command writes, checked before it works for it."""

from pathlib import Path


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
