"""Problems as the data sets that TRL's trainers read."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import datasets

from ptdpo.data.contexts import Material, context_columns, context_row
from ptdpo.data.images import open_image
from ptdpo.data.prompts import THINKING_INSTRUCTION, conversation, question_text
from ptdpo.data.readable import readable_row
from ptdpo.data.teacher_images import CONTRAST, TEACHER, VIEWS
from ptdpo.records import Hint, Problem

_MESSAGES = [{"role": datasets.Value("string"), "content": datasets.Value("string")}]
# Paths: what they show is decided by ``open_image`` when a row is read.
_IMAGES = datasets.List(datasets.Value("string"))
_TEXT = datasets.Value("string")


def rl_dataset(
    problems: Sequence[Problem],
    hints: Mapping[str, Hint] | None = None,
    *,
    instruction: str = THINKING_INSTRUCTION,
    system: str | None = None,
    solutions: Mapping[str, str] | None = None,
) -> datasets.Dataset:
    """Return the data set of ``PTDTrainer``: what policy and teacher read, and the answer.

    ``prompt`` is what the policy reads; the columns of ``CONTEXTS`` are what a teacher is shown besides, and
    ``teacher_images`` and ``contrast_images``, where some problem has them, what it may see; ``instruction`` tells
    where a hint goes: in front of it. A row that lacks what its method shows is never tutored.
    """
    hints, solutions = hints or {}, solutions or {}
    rows = []
    for problem in problems:
        material = Material(problem, hints.get(problem.id), solutions.get(problem.id), instruction)
        rows.append(
            {
                "id": problem.id,
                "prompt": conversation(question_text(problem, instruction), system),
                "images": list(problem.images),
                TEACHER: list(problem.teacher_images),
                CONTRAST: list(problem.contrast_images),
                "answer": problem.answer,
                **context_row(material),
            }
        )
    told = {name: column.feature for name, column in context_columns().items()}
    # Columns that no row fills are left out: every reward is called with all there are.
    views = {name: _IMAGES for name in VIEWS if any(row[name] for row in rows)}
    features = datasets.Features(
        {"id": _TEXT, "prompt": _MESSAGES, "images": _IMAGES, **views, "answer": _TEXT, **told, "instruction": _TEXT}
    )
    columns = {name: [row[name] for row in rows] for name in features}
    return datasets.Dataset.from_dict(columns, features=features).with_transform(readable)


def readable(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return rows as models read them; an image that several of them show is opened once.

    A data set that was saved to disk has lost this: ``load_from_disk(FOLDER).with_transform(readable)``.
    """
    if "images" not in batch:
        return batch
    seen = [name for name in ("images", *VIEWS) if name in batch]
    pictures = {path: open_image(path) for name in seen for paths in batch[name] for path in paths or ()}
    rows = ({name: values[number] for name, values in batch.items()} for number in range(len(batch["images"])))
    read = [
        readable_row({**row, **{name: [pictures[path] for path in row[name] or ()] for name in seen}}) for row in rows
    ]
    return {name: [row[name] for row in read] for name in batch}


def solution_rows(
    problems: Sequence[Problem], solutions: Mapping[str, str], instruction: str = THINKING_INSTRUCTION
) -> Sequence[tuple[Sequence[str], str, str]]:
    """Return the rows of ``sft_dataset`` for the problems that have a solution.

    Raises:
        ValueError: if no solution belongs to a problem.
    """
    rows = [(p.images, question_text(p, instruction), solutions[p.id]) for p in problems if p.id in solutions]
    if not rows:
        raise ValueError(f"none of the {len(solutions)} solutions belongs to one of the {len(problems)} problems")
    return rows


def sft_dataset(rows: Iterable[tuple[Sequence[str], str, str]]) -> datasets.Dataset:
    """Return the data set of supervised fine-tuning from (image paths, question text, response) rows."""
    columns: dict[str, list] = {"prompt": [], "images": [], "completion": []}
    for images, text, response in rows:
        columns["prompt"].append(conversation(text))
        columns["images"].append(list(images))
        columns["completion"].append([{"role": "assistant", "content": response}])
    features = datasets.Features({"prompt": _MESSAGES, "images": _IMAGES, "completion": _MESSAGES})
    dataset = datasets.Dataset.from_dict(columns, features=features)
    # TRL tokenizes text beforehand, and takes no transform there.
    return dataset.with_transform(readable) if any(columns["images"]) else dataset
