"""From the data section of a recipe to checked problems and hints."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptdpo.config import DataSettings
from ptdpo.data.checks import find_bad_rows, keep_good
from ptdpo.data.contexts import Context, Material, context_row
from ptdpo.data.easy_vqa import load_easy_vqa
from ptdpo.data.files import read_hints, read_problems, read_solutions
from ptdpo.data.parquet import load_hub, load_parquet
from ptdpo.data.prompts import THINKING_INSTRUCTION, question_text
from ptdpo.records import Hint, Problem


@dataclass(frozen=True, slots=True)
class LoadedData:
    """Checked problems with their hints, and a report on rows that were dropped (empty: none)."""

    problems: list[Problem]
    hints: dict[str, Hint]
    solutions: dict[str, str]
    report: str

    def shows(self, context: Context) -> int:
        """Return for how many problems there is what a context shows."""
        materials = (Material(p, self.hints.get(p.id), self.solutions.get(p.id)) for p in self.problems)
        return sum(context.text(question_text(m.problem, ""), context_row(m), None) is not None for m in materials)

    @property
    def hinted(self) -> int:
        """Return how many problems carry a hint."""
        return sum(p.id in self.hints or bool((p.prompt_with_hint or "").strip()) for p in self.problems)


def load_data(
    settings: DataSettings, *, processor: Any = None, image_folder: str | Path, context: str = "hint"
) -> LoadedData:
    """Load, draw and check the problems of a recipe.

    Args:
        settings: the data section.
        processor: counts tokens for ``max_prompt_tokens``; ``None`` leaves lengths unchecked.
        image_folder: where images stored inside parquet files are written.
        context: what the teacher will read: it counts as part of a prompt, see ``find_bad_rows``.

    Raises:
        ValueError: on unreadable data, bad rows under ``refuse``, or hints or solutions that belong to no
            problem.
    """
    origin = settings.path or settings.source
    problems = _draw(_read(settings, image_folder), settings)
    hints = read_hints(settings.hints) if settings.hints else {}
    if hints and not any(problem.id in hints for problem in problems):
        raise ValueError(f"{settings.hints}: none of its {len(hints)} hints belongs to a problem of {origin}")
    solutions = read_solutions(settings.solutions) if settings.solutions else {}
    if solutions and not any(problem.id in solutions for problem in problems):
        raise ValueError(
            f"{settings.solutions}: none of its {len(solutions)} solutions belongs to a problem of {origin}"
        )
    instruction = instruction_of(settings)
    checked = find_bad_rows(
        problems,
        processor=processor,
        max_prompt_tokens=settings.max_prompt_tokens,
        hints=hints,
        solutions=solutions,
        context=context,
        instruction=instruction,
    )
    good, report = keep_good(checked, settings.bad_rows, origin)
    return LoadedData(good, hints, solutions, report)


def instruction_of(settings: DataSettings) -> str:
    """Return the instruction that follows every question."""
    return THINKING_INSTRUCTION if settings.instruction is None else settings.instruction


def _read(settings: DataSettings, image_folder: str | Path) -> list[Problem]:
    if settings.source == "easy-vqa":
        return load_easy_vqa(settings.split)
    if not settings.path:
        raise ValueError(f"data.path is empty: the source {settings.source!r} needs one")
    if settings.source == "jsonl":
        return read_problems(settings.path)
    if settings.source == "parquet":
        return load_parquet(settings.path, image_folder)
    return load_hub(settings.path, settings.split, image_folder)


def _draw(problems: list[Problem], settings: DataSettings) -> list[Problem]:
    if settings.limit is None or settings.limit >= len(problems):
        return problems
    if settings.limit < 1:
        raise ValueError(f"data.limit={settings.limit}: must be at least 1")
    return random.Random(settings.seed).sample(problems, settings.limit)
