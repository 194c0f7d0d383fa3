"""The image files of a benchmark's rows: stored inside them, or as paths into a folder or a zip file."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ptdpo.data.parquet import image_path


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

    def paths(self, cell: Any) -> tuple[str, ...]:
        """Return the path of each image in a row's cell; of one that is nowhere, the path in the row.

        Raises:
            ValueError: if one is null, or neither a path nor bytes.
        """
        images = cell if isinstance(cell, list) else [] if cell is None else [cell]
        given = (image_path(image, f"image {n}", Path(), self._cache) for n, image in enumerate(images, start=1))
        return tuple(path if Path(path).is_relative_to(self._cache) else self._below_roots(path) for path in given)

    def found(self, given: str) -> str:
        """Return a path at which there is an image, else where it is below the roots; if nowhere, the path itself."""
        return given if Path(given).is_file() else self._below_roots(given)

    def _below_roots(self, given: str) -> str:
        """Return where an image is: a relative path of a row says nothing of the folder in which the command runs."""
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
