"""The image files of a benchmark's rows: stored inside them, or as paths into a folder or a zip file."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import datasets

from ptdpo.data.parquet import as_list, image_path


class ImageFinder:
    """Finds the files of a row's images.

    PAPO_eval stores paths such as ``./data/images/FOLDER/FILE.png`` and packs ``FOLDER`` into a zip file: a path is
    looked up below each root as it is, then without its leading folders down to ``FOLDER/FILE.png``.
    """

    def __init__(self, roots: Sequence[Path], cache: Path, archive: Callable[[], Path | None]) -> None:
        """Look below the roots; write embedded images to ``cache``, and unpack the archive there if one is missing."""
        self._roots = roots
        self._cache = cache
        self._archive = archive
        self._unpacked = False

    def undecoded(self, rows: datasets.Dataset) -> datasets.Dataset:
        """Return the rows with images as bytes or paths, not as decoded pictures."""
        features = rows.features["images"]
        if isinstance(features, datasets.List) and isinstance(features.feature, datasets.Image):
            return rows.cast_column("images", datasets.List(datasets.Image(decode=False)))
        if isinstance(features, datasets.Image):
            return rows.cast_column("images", datasets.Image(decode=False))
        return rows

    def paths(self, images: Any) -> tuple[str, ...]:
        """Return the path of each image of a row; of one that is nowhere, the path in the row."""
        return tuple(self._find(image_path(image, self._cache)) for image in as_list(images))

    def _find(self, given: str) -> str:
        found = self._look_up(given)
        if found is None and not self._unpacked:
            self._unpack()
            found = self._look_up(given)
        return given if found is None else str(found)

    def _look_up(self, given: str) -> Path | None:
        path = Path(given)
        if path.is_absolute():
            return path
        parts = PurePosixPath(given.replace("\\", "/")).parts
        endings = [parts[start:] for start in range(max(1, len(parts) - 1))]
        candidates = (root.joinpath(*ending) for ending in endings for root in self._roots)
        return next((candidate for candidate in candidates if candidate.is_file()), None)

    def _unpack(self) -> None:
        self._unpacked = True
        archive = self._archive()
        if archive is None:
            return
        try:
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(self._cache)
        except (OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{archive}: cannot be unpacked: {error}") from error
