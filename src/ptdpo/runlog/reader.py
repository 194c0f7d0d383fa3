"""Reading the records of a run, in progress or cut off: lines that are not whole are counted and left out."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ptdpo.runlog.lines import (
    FOLDER,
    IMAGES,
    KINDS,
    GroupLine,
    QuestionLine,
    TokenLine,
)
from ptdpo.runlog.parsing import group_line, question_line, token_line

_T = TypeVar("_T", QuestionLine, GroupLine, TokenLine)


@dataclass(frozen=True, slots=True)
class RunRecords:
    """The records of one run.

    Attributes:
        folder: ``records`` of the run.
        questions: by id and hint id.
        groups: by step and group, in order, the parts of several processes joined.
        tokens: rollouts token by token, by (step sampled, group, rollout).
        broken: lines that could not be read.
    """

    folder: Path
    questions: Mapping[tuple[str, str], QuestionLine]
    groups: Mapping[tuple[int, int], GroupLine]
    tokens: Mapping[tuple[int, int, int], TokenLine]
    broken: int = 0

    def question_of(self, group: GroupLine) -> QuestionLine | None:
        """Return the question of a group, ``None`` if its line was lost."""
        return self.questions.get((group.id, group.hint_id))

    def image(self, name: str) -> Path | None:
        """Return the file of an image, ``None`` if it is not there, or not the name of one."""
        path = self.folder / IMAGES / Path(name).name
        return path if path.is_file() else None


def read_records(run: str | Path) -> RunRecords:
    """Read the records of a run; empty where it kept none, as runs of older versions."""
    folder = Path(run) / FOLDER
    broken: list[str] = []
    # Last what is written first: so what is written meanwhile leaves no rollout without its group, no group without
    # its question.
    tokens: dict[tuple[int, int, int], TokenLine] = {}
    for line in _lines(folder, TokenLine, token_line, broken):
        # A rollout that is trained on several times is kept as it was the first time.
        tokens.setdefault(line.key, line)
    groups: dict[tuple[int, int], GroupLine] = {}
    for part in _lines(folder, GroupLine, group_line, broken):
        groups[part.key] = part if part.key not in groups else _joined(groups[part.key], part)
    questions = {(q.id, q.hint_id): q for q in _lines(folder, QuestionLine, question_line, broken)}
    return RunRecords(folder, questions, dict(sorted(groups.items())), dict(sorted(tokens.items())), len(broken))


def _joined(one: GroupLine, other: GroupLine) -> GroupLine:
    rollouts = {rollout.rollout: rollout for rollout in (*one.rollouts, *other.rollouts)}
    return replace(one, rollouts=[rollouts[place] for place in sorted(rollouts)])


def _lines(folder: Path, kind: type[_T], made: Callable[[Mapping[str, Any]], _T], broken: list[str]) -> Iterator[_T]:
    for path in sorted(folder.glob(f"{KINDS[kind]}-*.jsonl")):
        if not path.is_file():
            # A pipe would be read for ever.
            broken.append(str(path))
            continue
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield made(json.loads(line))
                except (ValueError, TypeError, KeyError, RecursionError):
                    broken.append(f"{path}:{number}")
