"""Which parquet files a path names: a file, a folder of one split, or a pattern such as ``data/train-*.parquet``."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

# How splits are called, in the names of files (train-00000-of-00002.parquet) and of their folders (train/0000.parquet).
_SPLIT = re.compile(r"(train|training|test|testing|validation|valid|val|dev|eval)(?![a-z])", re.IGNORECASE)


def parquet_files(path: Path) -> list[Path]:
    """Return the parquet files that a path names, whether they are there or not, in the order of their names."""
    if path.is_dir():
        return sorted(path.glob("**/*.parquet"))
    if not path.exists() and re.search(r"[*?\[]", path.name):
        return sorted(path.parent.glob(path.name))
    return [path]


def one_split(path: Path, keep: Callable[[Path], bool] = lambda file: True) -> Sequence[Path]:
    """Return the files of a path of which ``keep`` is true.

    Raises:
        ValueError: if there is none, one is missing, or they are of several splits: what was held back for tests would
            be trained on.
    """
    files = [file for file in parquet_files(path) if keep(file)]
    if not files or not all(file.is_file() for file in files):
        raise ValueError(f"{path}: no parquet file there")
    splits = {name: file for file in files if (name := _split_of(file, path))}
    if len(splits) > 1:
        names = sorted(splits)
        last = splits[names[-1]]
        pattern = last.with_name(re.sub(r"-\d+-of-\d+.*", "-*.parquet", last.name))
        raise ValueError(f"{path}: holds the splits {', '.join(names)}: name the files of one, such as '{pattern}'")
    return files


def _split_of(file: Path, root: Path) -> str:
    """Return the split that the name of a file below a path tells, or that of its folder; empty if neither does."""
    folders = file.relative_to(root).parts[:-1] if file.is_relative_to(root) else ()
    found = next((match for part in (file.name, *reversed(folders)) if (match := _SPLIT.match(part))), None)
    return "" if found is None else found[1].lower()
