"""Writing the records of a run: each process appends to its own files, and a kill costs at most the line it cuts."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ptdpo.folders import append_line, replacing
from ptdpo.runlog.lines import FOLDER, IMAGES, KINDS, Line, as_json

# Longest side of a kept image.
LONGEST_SIDE = 384
_STEP = re.compile(rb'\{"step": (\d+)')


class RecordWriter:
    """Appends lines to the shards of one process.

    Args:
        folder: of the run.
        process: which one this is.
    """

    def __init__(self, folder: str | Path, process: int = 0) -> None:
        self.folder, self._process = Path(folder) / FOLDER, process
        self._images: set[str] = set()
        self._watchers: list[Callable[[Sequence[Line]], None]] = []

    def tell(self, watcher: Callable[[Sequence[Line]], None]) -> None:
        """Hand every line that is written from now on to a watcher, too."""
        self._watchers.append(watcher)

    def go_on_from(self, step: int, processes: int = 1) -> None:
        """Drop what was written after a step, and a line that a kill cut: those steps are made again.

        Args:
            step: the last that stands.
            processes: how many write now; the first also cuts the shards of those that are there no more.
        """
        for path in sorted(self.folder.glob("*.jsonl")):
            shard = int(path.stem.rpartition("-")[2])
            if shard == self._process or (self._process == 0 and shard >= processes):
                _cut(path, step)

    def write(self, lines: Sequence[Line]) -> None:
        """Append lines; when this returns, the death of the process does not lose them."""
        by_kind: dict[str, list[str]] = {}
        for line in lines:
            by_kind.setdefault(KINDS[type(line)], []).append(json.dumps(as_json(line)))
        for kind, texts in by_kind.items():
            self.folder.mkdir(parents=True, exist_ok=True)
            # Whoever reads meanwhile sees at most the last line cut.
            append_line(self.folder / f"{kind}-{self._process:05d}.jsonl", "\n".join(texts))
        for watcher in self._watchers:
            watcher(lines)

    def keep_images(self, images: Sequence[Any]) -> tuple[str, ...]:
        """Keep images, smaller where they are large, and return their file names; one without pixels is left out."""
        return tuple(name for name in map(self._keep, images) if name)

    def _keep(self, image: Any) -> str:
        if not hasattr(image, "convert"):
            return ""
        small = image.convert("RGB")
        small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        name = f"{hashlib.sha256(small.tobytes() + repr(small.size).encode()).hexdigest()[:16]}.png"
        path = self.folder / IMAGES / name
        if name not in self._images and not path.exists():
            with replacing(path, shared=True) as partial:
                small.save(partial, format="PNG")
        self._images.add(name)
        return name


def _cut(path: Path, step: int) -> None:
    """Truncate a shard before its first line of a later step, or that is not whole; steps never fall within one."""
    end = 0
    with path.open("rb+") as file:
        for line in file:
            found = _STEP.match(line)
            if found is None or not line.endswith(b"\n") or int(found[1]) > step:
                break
            end += len(line)
        file.truncate(end)
