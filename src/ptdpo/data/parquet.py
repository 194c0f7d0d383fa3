"""Problems from parquet files or the hub, in the schemas of ViRL39K, PAPO and EasyR1."""

import hashlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import datasets
from datasets.exceptions import DatasetsError

from ptdpo.data.prompts import strip_image_markers
from ptdpo.records import Problem


def load_parquet(path: str | Path, image_folder: str | Path) -> list[Problem]:
    """Read a parquet file, or every parquet file of a folder.

    Args:
        path: file or folder.
        image_folder: where images that are stored inside the files are written.

    Raises:
        ValueError: if there is no such file, or a column is missing.
    """
    path = Path(path)
    files = sorted(path.glob("**/*.parquet")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise ValueError(f"{path}: no parquet file there")
    rows = datasets.Dataset.from_parquet([str(file) for file in files])
    assert isinstance(rows, datasets.Dataset)
    return problems_from_rows(rows, str(path), image_folder)


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

    Raises:
        ValueError: if a column is missing; names those found.
    """
    for column in ("problem", "answer", "images"):
        if column not in rows.column_names:
            raise ValueError(f"{origin}: the column {column!r} is missing (found: {', '.join(rows.column_names)})")
    features = rows.features["images"]
    if isinstance(features, datasets.List) and isinstance(features.feature, datasets.Image):
        rows = rows.cast_column("images", datasets.List(datasets.Image(decode=False)))
    folder = Path(image_folder)
    stem = Path(origin.split(":")[0]).stem
    return [
        Problem(
            id=str(row["id"]) if row.get("id") is not None else f"{stem}-{number}",
            images=tuple(image_path(image, folder) for image in as_list(row["images"])),
            problem=strip_image_markers(row["problem"] or ""),
            answer=str(row["answer"] if row["answer"] is not None else ""),
            source=str(row.get("source") or origin),
            prompt_with_hint=row.get("prompt_with_hint"),
        )
        for number, row in enumerate(_as_rows(rows))
    ]


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
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(content).hexdigest()[:24]}{_suffix(content)}"
    if not path.exists():
        partial = path.with_suffix(".partial")
        partial.write_bytes(content)
        partial.replace(path)
    return str(path)


def _suffix(content: bytes) -> str:
    head = io.BytesIO(content).read(4)
    return ".jpg" if head.startswith(b"\xff\xd8") else ".png" if head.startswith(b"\x89PNG") else ".img"
