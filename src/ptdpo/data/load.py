"""From the data section of a recipe to checked problems and hints."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptdpo.config import DataSettings, Source
from ptdpo.data.checks import CheckedProblems, find_bad_rows, keep_good
from ptdpo.data.contexts import Context, Material, context_row
from ptdpo.data.easy_vqa import load_easy_vqa
from ptdpo.data.files import read_made_hints, read_made_solutions
from ptdpo.data.identity import files_hash, fitting
from ptdpo.data.parquet import hub_table, scan_table
from ptdpo.data.prompts import THINKING_INSTRUCTION, question_text
from ptdpo.data.rows import Reading
from ptdpo.data.scan import Read, read_rows, sorted_out, unique
from ptdpo.data.teacher_images import TeacherImages
from ptdpo.records import BadRow, Hint, Problem
from ptdpo.values import check_limits


@dataclass(frozen=True, slots=True)
class LoadedData:
    """Checked problems with their hints, and what was found bad.

    Attributes:
        problems: the good ones.
        hints: by problem id.
        solutions: by problem id.
        report: on rows that were dropped; empty: none.
        bad: those rows.
    """

    problems: list[Problem]
    hints: dict[str, Hint]
    solutions: dict[str, str]
    report: str
    bad: tuple[BadRow, ...] = ()

    def shows(self, context: Context, columns: Sequence[str] = ()) -> int:
        """Return for how many problems there is what a context shows, and images in these columns too."""
        having = (p for p in self.problems if all(getattr(p, name) for name in columns))
        materials = (Material(p, self.hints.get(p.id), self.solutions.get(p.id)) for p in having)
        return sum(context.text(question_text(m.problem, ""), context_row(m), None) is not None for m in materials)

    @property
    def hinted(self) -> int:
        """Return how many problems carry a hint."""
        return sum(p.id in self.hints or bool((p.prompt_with_hint or "").strip()) for p in self.problems)


def load_data(
    settings: DataSettings,
    *,
    processor: Any = None,
    image_folder: str | Path | None = None,
    context: str = "hint",
    teacher: TeacherImages | None = None,
    processes: int = 1,
) -> LoadedData:
    """Load, draw and check the problems of a recipe.

    Args:
        settings: the data section.
        processor: of the model that will read them, see ``find_bad_rows``; ``None``: it is not asked.
        image_folder: where images inside parquet files are written; by default the cache of all runs.
        context: what the teacher will read: it counts as part of a prompt, see ``find_bad_rows``.
        teacher: which images it sees, see ``find_bad_rows``.
        processes: how many train on it.

    Raises:
        ValueError: on unreadable data, bad rows under ``refuse``, problems with and without an image for several
            processes unless the latter are dropped, or hints or solutions that belong to no
            problem, or to one whose question, images or answer have changed.
    """
    check_limits(settings, "data.{}")
    origin = settings.path or source_of(settings)
    read = _read(settings, None if image_folder is None else Path(image_folder))
    problems = _draw(read.problems, settings)
    hints = _made_hints(settings, read.problems, origin)
    solutions = _made_solutions(settings, read.problems, origin)
    checked = find_bad_rows(
        problems,
        processor=processor,
        max_prompt_tokens=settings.max_prompt_tokens,
        hints=hints,
        solutions=solutions,
        context=context,
        teacher=teacher or TeacherImages(),
        instruction=instruction_of(settings),
    )
    everything = CheckedProblems(checked.good, [*read.bad, *checked.bad])
    good, report = keep_good(everything, settings.bad_rows, origin)
    good, without = _alike(good, settings, processes)
    report = "; ".join(filter(None, (report, without)))
    return LoadedData(good, hints, solutions, report, tuple(everything.bad))


def _alike(problems: list[Problem], settings: DataSettings, processes: int) -> tuple[list[Problem], str]:
    """Return the problems that several processes can train on together, and a count of those that are dropped.

    Processes wait for each other at every part of the model, at the vision tower too.
    """
    seeing = [problem for problem in problems if problem.images]
    without = len(problems) - len(seeing)
    if processes == 1 or not seeing or not without:
        return problems, ""
    first = next(problem.id for problem in problems if not problem.images)
    counted = f"{without} of {len(problems)} problems have no image (the first is {first!r})"
    if settings.without_image == "refuse":
        raise ValueError(
            f"{counted}: several processes train on problems with images or on those without; leave these out with "
            "data.without_image=drop, or train on the two kinds in separate runs"
        )
    return seeing, f"{counted}, which {processes} processes cannot train on beside the others"


def instruction_of(settings: DataSettings) -> str:
    """Return the instruction that follows every question."""
    return THINKING_INSTRUCTION if settings.instruction is None else settings.instruction


def reading_of(settings: DataSettings) -> Reading:
    """Return how the rows of a recipe are read."""
    return Reading(settings.columns, settings.allow_unknown)


def source_of(settings: DataSettings) -> Source:
    """Return where the problems of a recipe are: as it says, or else as its path looks.

    Raises:
        ValueError: if it says neither, or says a source that the path is not.
    """
    path, said = settings.path, settings.source
    if said == "easy-vqa":
        return said
    if not path:
        raise ValueError("data.path is empty: name a problems file, or a data set of the hub")
    file = Path(path)
    looks: Source = "jsonl" if file.suffix == ".jsonl" else "parquet"
    if file.suffix not in (".jsonl", ".parquet") and not file.exists():
        looks = "hub"
    # An override of the path alone must not read a file here as a data set of the hub.
    if said == "hub" and looks != "hub":
        return looks
    if {said, looks} == {"jsonl", "parquet"}:
        raise ValueError(f"data.source={said}: data.path={path} looks like {looks}; leave data.source out")
    return said or looks


def data_hash(settings: DataSettings) -> str:
    """Return a hash of the files that a run reads problems, hints and solutions from; of a hub data set, its name."""
    named = (settings.path, settings.hints, settings.solutions)
    return files_hash(name for name in named if name)


def _made_hints(settings: DataSettings, problems: list[Problem], origin: str) -> dict[str, Hint]:
    if not settings.hints:
        return {}
    made = read_made_hints(settings.hints)
    if made and not any(problem.id in made for problem in problems):
        raise ValueError(f"{settings.hints}: none of its {len(made)} hints belongs to a problem of {origin}")
    return fitting(made, problems, settings.hints, "hints", ignore=settings.ignore_question)


def _made_solutions(settings: DataSettings, problems: list[Problem], origin: str) -> dict[str, str]:
    if not settings.solutions:
        return {}
    made = read_made_solutions(settings.solutions)
    if made and not any(problem.id in made for problem in problems):
        raise ValueError(f"{settings.solutions}: none of its {len(made)} solutions belongs to a problem of {origin}")
    return fitting(made, problems, settings.solutions, "solutions", ignore=settings.ignore_question)


def _read(settings: DataSettings, images: Path | None) -> Read:
    source = source_of(settings)
    if source == "easy-vqa":
        return Read(load_easy_vqa(settings.split), [])
    if source == "hub":
        return sorted_out(unique(scan_table(hub_table(settings.path, settings.split), reading_of(settings), images)))
    return read_rows(settings.path, reading_of(settings), images)


def _draw(problems: list[Problem], settings: DataSettings) -> list[Problem]:
    if settings.limit is None or settings.limit >= len(problems):
        return problems
    return random.Random(settings.seed).sample(problems, settings.limit)
