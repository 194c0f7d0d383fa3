"""Tables of problems, from parquet files or the hub, in the schemas that people have: PAPO's, EasyR1's, ViRL39K's."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy
import pyarrow
import pyarrow.parquet
from datasets.exceptions import DatasetsError

from ptdpo.data.identity import content_id
from ptdpo.data.images import stored_image
from ptdpo.data.parquet_files import one_split
from ptdpo.data.rows import (
    FIELDS,
    IMAGE_FIELDS,
    Reading,
    id_text,
    is_missing,
    looks_like_image,
    lost_image,
    nearest_field,
    problem_of,
    refuse_no_file,
)
from ptdpo.records import BadRow, Problem

Row = Mapping[str, Any]

# Where a table has no column of our name: what others call it (TIGER-Lab/ViRL39K).
_ALSO_CALLED = {"problem": "question", "images": "image", "id": "qid"}
_NEEDED = ("problem", "answer", "images")
# Rows in memory at a time: their images may be large.
_ROWS = 64
_CANNOT = (OSError, ValueError, DatasetsError, pyarrow.ArrowException)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with columns.

    Attributes:
        origin: where they come from, for messages.
        schema: of the columns.
        count: of the rows.
        rows: yields each row with images as stored, and the folder from which its relative paths are taken.
    """

    origin: str
    schema: pyarrow.Schema
    count: int
    rows: Callable[[], Iterator[tuple[Row, Path]]]

    @property
    def columns(self) -> list[str]:
        """Return the names of the columns."""
        return list(self.schema.names)


def images_cache() -> Path:
    """Return the folder of embedded images, one for all runs: in ``PTDPO_CACHE``, or the user's cache folder."""
    own = os.environ.get("PTDPO_CACHE")
    root = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ptdpo"
    return root / "images"


def parquet_table(path: Path, keep: Callable[[Path], bool] = lambda file: True) -> Table:
    """Return the rows of a parquet file, or of the parquet files of a folder or a pattern.

    Args:
        path: file, folder, or pattern such as ``data/train-*.parquet``.
        keep: which files of a folder.

    Raises:
        ValueError: if there is no such file, they are of several splits, one is broken, or their columns differ or are
            there twice; names it.
    """
    files = one_split(path, keep)
    opened = []
    for file in files:
        try:
            opened.append(pyarrow.parquet.ParquetFile(file))
        except _CANNOT as error:
            other = "" if file.suffix == ".parquet" else "its name does not end in .jsonl, and it is "
            raise ValueError(f"{file}: {other}not readable as parquet ({' '.join(str(error).split())})") from error
    schema = opened[0].schema_arrow
    twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{files[0]}: has the column {twice!r} twice")
    for file, one in zip(files, opened, strict=True):
        if set(one.schema_arrow.names) != set(schema.names):
            raise ValueError(
                f"{file}: has the columns {', '.join(one.schema_arrow.names)}, but {files[0].name} beside it has "
                f"{', '.join(schema.names)}"
            )

    def rows() -> Iterator[tuple[Row, Path]]:
        for file, one in zip(files, opened, strict=True):
            try:
                for batch in one.iter_batches(_ROWS):
                    for row in _rows_of(batch):
                        yield row, file.parent
            except pyarrow.ArrowException as error:
                raise ValueError(f"{file}: not readable as parquet ({' '.join(str(error).split())})") from error

    return Table(str(path), schema, sum(one.metadata.num_rows for one in opened), rows)


def hub_table(name: str, split: str) -> Table:
    """Return the rows of a split of a data set of the hub.

    Raises:
        ValueError: if it cannot be loaded, for want of the network, the data set or the split.
    """
    try:
        found = datasets.load_dataset(name, split=split)
    except _CANNOT as error:
        raise ValueError(f"data set {name!r}, split {split!r}, cannot be loaded: {error}") from error
    assert isinstance(found, datasets.Dataset)
    # As Arrow: images as stored, not as pixels.
    stored: Any = found.with_format("arrow")

    def rows() -> Iterator[tuple[Row, Path]]:
        for batch in stored.iter(batch_size=_ROWS):
            for row in _rows_of(batch):
                yield row, Path()

    return Table(f"{name}:{split}", found.features.arrow_schema, len(found), rows)


def _rows_of(batch: Any) -> list[dict[str, Any]]:
    """Return the rows of a batch; numbers in single and half precision as they are written: 0.1, not 0.10000000149."""
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:
        columns = [_decoded(column) for column in batch.columns]
        rows = [dict(zip(batch.schema.names, cells, strict=True)) for cells in zip(*columns, strict=True)]
    for field in batch.schema:
        kind = field.type.value_type if pyarrow.types.is_dictionary(field.type) else field.type
        if kind in (pyarrow.float16(), pyarrow.float32()):
            narrow = numpy.float16 if kind == pyarrow.float16() else numpy.float32
            for row in rows:
                number = row[field.name]
                row[field.name] = None if number is None else float(str(narrow(number)))
    return rows


def _decoded(column: Any) -> list[Any]:
    """Return the cells of a column; what is not UTF-8 in a text becomes half a character, by which it is found bad."""
    types = pyarrow.types
    if not (types.is_string(column.type) or types.is_large_string(column.type)):
        return column.to_pylist()
    kind = pyarrow.binary() if types.is_string(column.type) else pyarrow.large_binary()
    cells = column.cast(kind).to_pylist()
    return [None if cell is None else cell.decode("utf-8", "surrogateescape") for cell in cells]


def scan_table(table: Table, reading: Reading | None = None, images: Path | None = None) -> Iterator[Problem | BadRow]:
    """Yield the problem in each row, or a ``BadRow`` for one that is mistyped; ids may repeat.

    Columns are named by ``reading``; else problem, images, id may also be called question, image, qid. Rows without an
    id are named by a hash of question, images and answer; of rows that are alike the later ones get a number.

    Args:
        table: of rows.
        reading: how they are read.
        images: where embedded images are written; by default ``images_cache``.

    Raises:
        ValueError: if a column is missing, or one that may hold images would be passed over; names those found.
    """
    reading = with_columns(table, reading or Reading())
    folder = images or images_cache()
    seen: dict[str, int] = {}
    for number, (row, beside) in enumerate(table.rows()):
        where = f"{table.origin}, row {number}"
        key = f"row {number}"
        try:
            given = row.get(reading.key("id"))
            own = "" if is_missing(given) else id_text(given, reading.key("id"), where)
            key = own or key
            paths = {name: _image_paths(row, name, reading, where, beside, folder) for name in IMAGE_FIELDS}
            if not paths["images"] and (lost := lost_image(row, reading)):
                raise ValueError(f"{where}: {lost}")
            problem = problem_of(row, paths, own, where, reading, table.origin)
        except ValueError as error:
            yield BadRow(key, str(error))
            continue
        # An id made of content tells nobody where the row stands.
        yield (
            problem
            if own
            else replace(problem, id=_numbered(content_id(problem), seen), where=f"row {number}, counted from 0")
        )


def _numbered(key: str, seen: dict[str, int]) -> str:
    seen[key] = seen.get(key, 0) + 1
    return key if seen[key] == 1 else f"{key}-{seen[key]}"


def with_columns(table: Table, reading: Reading) -> Reading:
    """Return the reading with the column of each field.

    Raises:
        ValueError: if one is missing, or a column that may hold images would be passed over; names those found.
    """
    there = table.columns
    for name, column in reading.columns.items():
        if column not in there:
            raise ValueError(f"{table.origin}: data.columns={name}: no column {column!r} (found: {', '.join(there)})")
    named = dict(reading.columns)
    for name, other in _ALSO_CALLED.items():
        if name not in named and name not in there and other in there and other not in named.values():
            named[name] = other
    found = replace(reading, columns=named)
    missing = [name for name in _NEEDED if found.key(name) not in there]
    if missing:
        free = [column for column in there if column not in {found.key(name) for name in FIELDS}]
        near = next((column for column in free if nearest_field(column, missing[:1])), "NAME")
        raise ValueError(
            f"{table.origin}: the column {missing[0]!r} is missing (found: {', '.join(there)}); name the one that "
            f"holds it with data.columns, such as {{{missing[0]}: {near}}}"
        )
    _refuse_passed_over(table, found)
    return found


def _refuse_passed_over(table: Table, reading: Reading) -> None:
    """Refuse a column that may hold images, or that is a field of ours with a slip in its name. Others are normal."""
    if reading.allow_unknown:
        return
    used = {reading.key(name) for name in FIELDS}
    free = [name for name in FIELDS if reading.key(name) not in table.columns]
    for column in table.columns:
        if column in used:
            continue
        images = looks_like_image(column) or _holds_bytes(table.schema.field(column).type)
        near = None if images else nearest_field(column, free)
        if images or (near and near[:4] == column.lower()[:4]):
            used_as = near or nearest_field(column, free) if looks_like_image(column) else near
            used_as = used_as or "images"
            raise ValueError(
                f"{table.origin}: the column {column!r} would be passed over; if it holds the {used_as}, say so with "
                f"data.columns={{{used_as}: {column}}}, else pass it over with --allow-unknown "
                "(data.allow_unknown=true)"
            )


def _holds_bytes(kind: pyarrow.DataType) -> bool:
    types = pyarrow.types
    if types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    if any(test(kind) for test in (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view)):
        return _holds_bytes(kind.value_type)
    if types.is_struct(kind):
        return any(_holds_bytes(kind.field(number).type) for number in range(kind.num_fields))
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)


def _image_paths(row: Row, name: str, reading: Reading, where: str, beside: Path, folder: Path) -> list[str]:
    """Return the paths of the images in a field: none, one, or a list of them, as paths, bytes, or both."""
    cell = row.get(reading.key(name))
    images = cell if isinstance(cell, list) else [] if cell is None else [cell]
    of = "" if name == "images" else f" of {reading.key(name)!r}"
    return [
        image_path(image, f"{where}: image {place}{of}", beside, folder) for place, image in enumerate(images, start=1)
    ]


def image_path(image: Any, where: str, beside: Path, folder: Path) -> str:
    """Return the path of one image of a row: as given, or of its bytes as written to a folder, named by content.

    Args:
        image: path, bytes, or a mapping with ``bytes`` or ``path``.
        where: it stands, for messages.
        beside: the folder from which relative paths are taken.
        folder: where bytes are written.

    Raises:
        ValueError: if it is none of these, null or empty; begins with ``where``.
    """
    content, path = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, image)
    if isinstance(content, bytes) and content:
        return str(stored_image(content, folder))
    if isinstance(path, str) and path.strip():
        refuse_no_file(path, where)
        return str(beside / path)
    if isinstance(image, dict) and not {"bytes", "path"} & set(image):
        raise ValueError(f"{where} has neither 'bytes' nor 'path' (found: {', '.join(map(str, image)) or 'nothing'})")
    if image is None or isinstance(image, bytes | str | dict):
        raise ValueError(f"{where} is null or empty")
    raise ValueError(f"{where} is neither a path nor the bytes of an image, found {type(image).__name__}")
