"""What the two measured checks share."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from ptdpo.data.checks import BadRow
from ptdpo.data.scan import scan_problems
from ptdpo.records import Hint, Problem


def hinted_problems(problems: Path, hints: Mapping[str, Hint]) -> Iterator[Problem | BadRow]:
    """Yield the problems that have a hint, then a bad row for every hint whose problem is missing."""
    missing = dict.fromkeys(hints)
    for problem in scan_problems(problems):
        if problem.id in missing:
            del missing[problem.id]
            yield problem
    for problem_id in missing:
        yield BadRow(problem_id, f"there is a hint but no problem with this id in {problems}")
