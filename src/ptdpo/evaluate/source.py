"""The rows of a benchmark, from the hub or from parquet files."""

import re
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from ptdpo.data.parquet import Table, hub_table, parquet_table
from ptdpo.data.parquet_files import parquet_files
from ptdpo.evaluate.benchmark import Hub

_CANNOT = (OSError, ValueError, HfHubHTTPError, LocalEntryNotFoundError)


def hub_rows(source: Hub) -> Table:
    """Return a split of a data set of the hub.

    Raises:
        ValueError: if it cannot be loaded, for want of the network, the data set or the split.
    """
    try:
        return hub_table(source.repository, source.split)
    except ValueError as error:
        raise ValueError(f"{error}; a local copy can be given with --data NAME=PATH") from error


def hub_archive(source: Hub) -> Path | None:
    """Return the zip file with the images of a split, downloaded unless it is there.

    Raises:
        ValueError: if it cannot be downloaded.
    """
    if source.archive is None:
        return None
    try:
        return Path(hf_hub_download(source.repository, source.archive, repo_type="dataset"))
    except _CANNOT as error:
        raise ValueError(f"{source.repository}: the images {source.archive} cannot be loaded: {error}") from error


def parquet_rows(path: Path, split: str | None, name: str) -> Table:
    """Return the rows of a parquet file, or of the files of a split in a folder.

    Args:
        path: the file, a pattern of files, or a folder whose files are named ``SPLIT-00000-of-00001.parquet``, or
            ``SPLIT.parquet``.
        split: name of the split; ``None``: every parquet file of the folder.
        name: of the benchmark, for messages.

    Raises:
        ValueError: if there is no such file or split; names what was found.
    """
    if path.is_dir():
        there = parquet_files(path)
        if not any(split is None or _belongs(file, split) for file in there):
            found = ", ".join(file.name for file in there) or "no parquet file"
            raise ValueError(f"{name}: {path} has no parquet file of the split {split or 'any'!r} (found: {found})")
    elif not any(file.is_file() for file in parquet_files(path)):
        raise ValueError(f"{name}: {path}: no such file or folder")
    try:
        return parquet_table(path, lambda file: split is None or not path.is_dir() or _belongs(file, split))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _belongs(file: Path, split: str) -> bool:
    return re.fullmatch(rf"{re.escape(split)}(-\d+-of-\d+(-\w+)?)?\.parquet", file.name) is not None
