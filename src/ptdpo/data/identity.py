"""Which problem is it? Ids made from content, and the hash by which a hint for another question is noticed."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

from ptdpo.data.parquet_files import parquet_files
from ptdpo.data.prompts import strip_image_markers
from ptdpo.records import Problem

Made = TypeVar("Made")
_LENGTH = 16
_LISTED = 10


def question_hash(problem: Problem) -> str:
    """Return a short hash of question, images (their bytes) and answer: what is made for others is noticed by it."""
    return _hash(strip_image_markers(problem.problem), problem.answer, *map(_file_hash, problem.images))


def content_id(problem: Problem) -> str:
    """Return an id made from question, images and answer: it stays when rows move."""
    return question_hash(problem)


def made_for(problem: Problem, stored: str) -> bool:
    """Return whether a stored ``question_hash`` is that of a problem; one that says nothing fits all.

    Files that were made before images counted hold a hash of question and answer only, which is taken too.
    """
    return stored in ("", _words_hash(problem)) or stored == question_hash(problem)


def _words_hash(problem: Problem) -> str:
    return _hash(strip_image_markers(problem.problem), problem.answer)


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:_LENGTH]


def _file_hash(path: str) -> str:
    try:
        state = Path(path).stat()
        return _content_hash(path, state.st_size, state.st_mtime_ns)
    except (OSError, ValueError):
        # A missing file is a bad row; until then it has its name.
        return path


@lru_cache(maxsize=1 << 16)
def _content_hash(path: str, size: int, changed: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_hash(paths: Iterable[str | Path]) -> str:
    """Return a hash of the contents of files, of the parquet files in folders and of patterns; else of the name."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        for file in parquet_files(path):
            digest.update(_file_hash(str(file)).encode())
        digest.update(b"end of files")
    return digest.hexdigest()[: 2 * _LENGTH]


@dataclass(frozen=True, slots=True)
class MadeFor(Generic[Made]):
    """Something that was made for a question: a hint or a solution.

    Attributes:
        what: it is.
        question_hash: of the question, images and answer that it was made for; empty if it does not say.
        question: what was asked, as text; empty if it does not say.
    """

    what: Made
    question_hash: str = ""
    question: str = ""

    def fits(self, problem: Problem) -> bool:
        """Return whether it was made for this problem, as far as it says."""
        if self.question_hash:
            return made_for(problem, self.question_hash)
        asked = strip_image_markers(problem.problem)
        return not self.question or asked in strip_image_markers(self.question)


def fitting(
    made: Mapping[str, MadeFor[Made]], problems: Iterable[Problem], origin: str, kind: str, *, ignore: bool = False
) -> dict[str, Made]:
    """Return what was made, by problem id, once it is known to be made for these questions.

    Args:
        made: by problem id; ids of no problem are not looked at.
        problems: that it is used for.
        origin: the file, for the message.
        kind: what it holds: hints or solutions.
        ignore: use them all the same.

    Raises:
        ValueError: if some were made for other questions, images or answers; counts and lists them.
    """
    wrong = [p.id for p in problems if p.id in made and not made[p.id].fits(p)]
    if wrong and not ignore:
        listed = ", ".join(wrong[:_LISTED]) + (" ..." if len(wrong) > _LISTED else "")
        raise ValueError(
            f"{origin}: {len(wrong)} of {len(made)} {kind} were made for another question, image or answer than the "
            f"problem with their id now has ({listed}): make them anew, or use them as they are with --ignore-question "
            "(data.ignore_question=true)"
        )
    return {key: one.what for key, one in made.items()}
