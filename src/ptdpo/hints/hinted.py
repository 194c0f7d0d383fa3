"""Problems and the hints made for them, as the checks that ask a model read them: recoverability and usefulness."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from ptdpo.data.files import read_made_hints
from ptdpo.data.identity import fitting
from ptdpo.data.rows import Reading
from ptdpo.data.scan import scan_problems
from ptdpo.records import BadRow, Hint, Problem


def checked_hints(problems: Path, hints: Path, reading: Reading, *, ignore_question: bool) -> dict[str, Hint]:
    """Return the hints of a file by problem id, once they are known to be made for the questions of these problems.

    Raises:
        ValueError: if a file cannot be read, or hints were made for other questions; counts and lists them.
    """
    made = read_made_hints(hints)
    scanned = (row for row in scan_problems(problems, reading) if isinstance(row, Problem))
    return fitting(made, scanned, str(hints), "hints", ignore=ignore_question)


def hinted_problems(problems: Path, hints: Mapping[str, Hint], reading: Reading) -> Iterator[Problem | BadRow]:
    """Yield the problems that have a hint, then a bad row for every hint whose problem is missing."""
    missing = dict.fromkeys(hints)
    for problem in scan_problems(problems, reading):
        if problem.id in missing:
            del missing[problem.id]
            yield problem
    for problem_id in missing:
        yield BadRow(problem_id, f"there is a hint but no problem with this id in {problems}")
