"""Problems from parquet files or the hub, in the schemas of ViRL39K, PAPO and EasyR1."""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow
from datasets.exceptions import DatasetsError

from ptdpo.data.checks import BadRow
from ptdpo.data.files import as_text, optional_text
from ptdpo.data.prompts import strip_image_markers
from ptdpo.folders import replacing
from ptdpo.records import Problem


def load_parquet(path: str | Path, image_folder: str | Path) -> list[Problem]:
    """Read a parquet file, or every parquet file of a folder.

    Args:
        path: file or folder.
        image_folder: where images that are stored inside the files are written.

    Raises:
        ValueError: if there is no such file, it is broken, a column is missing, a row is mistyped, or an id is used
            twice; names the file and the row.
    """
    return problems_from_rows(_open_parquet(Path(path)), str(path), image_folder)


def scan_parquet(path: str | Path, image_folder: str | Path) -> Iterator[Problem | BadRow]:
    """Yield what ``load_parquet`` reads, row by row, and a ``BadRow`` for each that is mistyped; ids may repeat.

    Raises:
        ValueError: if there is no such file, it is broken, or a column is missing.
    """
    rows = _undecoded(_open_parquet(Path(path)), str(path))
    for number, row in enumerate(_as_rows(rows)):
        try:
            yield _problem(row, number, str(path), Path(image_folder))
        except ValueError as error:
            yield BadRow(f"row {number}", str(error))


def _open_parquet(path: Path) -> datasets.Dataset:
    files = sorted(path.glob("**/*.parquet")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise ValueError(f"{path}: no parquet file there")
    try:
        rows = datasets.Dataset.from_parquet([str(file) for file in files])
    except (OSError, ValueError, DatasetsError, pyarrow.ArrowException) as error:
        raise ValueError(f"{path}: not readable as parquet ({error.__cause__ or error})") from error
    assert isinstance(rows, datasets.Dataset)
    return rows


def load_hub(name: str, split: str, image_folder: str | Path) -> list[Problem]:
    """Read a split of a data set of the hub.

    Raises:
        ValueError: if it cannot be loaded, or a column is missing.
    """
    try:
        rows = datasets.load_dataset(name, split=split)
    except (OSError, ValueError, DatasetsError) as error:
        raise ValueError(f"data set {name!r}, split {split!r}, cannot be loaded: {error}") from error
    assert isinstance(rows, datasets.Dataset)
    return problems_from_rows(rows, f"{name}:{split}", image_folder)


def problems_from_rows(rows: datasets.Dataset, origin: str, image_folder: str | Path) -> list[Problem]:
    """Turn rows into problems: columns problem, answer, images; optional id, source, prompt_with_hint.

    Rows without an id are named by their number, counted from 0.

    Raises:
        ValueError: if a column is missing (names those found), a row is mistyped, or an id is used twice.
    """
    problems: dict[str, Problem] = {}
    for number, row in enumerate(_as_rows(_undecoded(rows, origin))):
        problem = _problem(row, number, origin, Path(image_folder))
        if problem.id in problems:
            raise ValueError(
                f"{_row(origin, number)}: the id {problem.id!r} is used twice; make the column 'id' unique, or leave "
                "it out and rows are numbered"
            )
        problems[problem.id] = problem
    return list(problems.values())


def _undecoded(rows: datasets.Dataset, origin: str) -> datasets.Dataset:
    """Return the rows with images as stored, not as pixels."""
    for column in ("problem", "answer", "images"):
        if column not in rows.column_names:
            raise ValueError(f"{origin}: the column {column!r} is missing (found: {', '.join(rows.column_names)})")
    features = rows.features["images"]
    if isinstance(features, datasets.List) and isinstance(features.feature, datasets.Image):
        return rows.cast_column("images", datasets.List(datasets.Image(decode=False)))
    return rows


def _row(origin: str, number: int) -> str:
    return f"{origin}, row {number}"


def _problem(row: Mapping[str, Any], number: int, origin: str, folder: Path) -> Problem:
    where = _row(origin, number)
    key = row.get("id")
    hinted = row.get("prompt_with_hint")
    return Problem(
        id=f"{Path(origin.split(':')[0]).stem}-{number}" if key is None else as_text(key, "id", where),
        images=tuple(image_path(image, folder) for image in as_list(row["images"])),
        problem=strip_image_markers(optional_text(row["problem"], "problem", where)),
        answer=optional_text(row["answer"], "answer", where),
        source=optional_text(row.get("source"), "source", where) or origin,
        prompt_with_hint=None if hinted is None else optional_text(hinted, "prompt_with_hint", where),
    )


def _as_rows(rows: datasets.Dataset) -> Iterable[Mapping[str, Any]]:
    return rows  # type: ignore[return-value]  # datasets declares rows as dict | list


def as_list(images: Any) -> list[Any]:
    """Return the images of a row as a list, whether it holds none, one or several."""
    if images is None:
        return []
    return list(images) if isinstance(images, list) else [images]


def image_path(image: Any, folder: Path) -> str:
    """Return the path of an image given as a path, or write one given as bytes, named by its content."""
    if isinstance(image, str):
        return image
    content = image.get("bytes")
    if not content:
        return str(image.get("path") or "missing image")
    path = folder / f"{hashlib.sha256(content).hexdigest()[:24]}{_suffix(content)}"
    if not path.exists():
        with replacing(path, shared=True) as partial:
            partial.write_bytes(content)
    return str(path)


def _suffix(content: bytes) -> str:
    head = io.BytesIO(content).read(4)
    return ".jpg" if head.startswith(b"\xff\xd8") else ".png" if head.startswith(b"\x89PNG") else ".img"
