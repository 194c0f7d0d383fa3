"""Problems as the data sets that TRL's trainers read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import datasets

from ptdpo.data.prompts import THINKING_INSTRUCTION, conversation, question_text, ready_made_hint_text
from ptdpo.records import Hint, Problem

_MESSAGES = [{"role": datasets.Value("string"), "content": datasets.Value("string")}]
_IMAGES = datasets.List(datasets.Image())
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

    ``prompt`` is what the policy reads; ``hint`` (structured) or ``prompt_with_hint`` (a whole user message)
    is what the teacher reads besides; ``instruction`` tells where the hint goes: in front of it; ``solution`` is a
    worked solution for methods that show one. A row that lacks what its method shows is never tutored.
    """
    hints = hints or {}
    names = ("id", "prompt", "images", "answer", "hint", "prompt_with_hint", "instruction", "solution")
    columns: dict[str, list] = {name: [] for name in names}
    for problem in problems:
        hint = hints.get(problem.id)
        columns["id"].append(problem.id)
        columns["prompt"].append(conversation(question_text(problem, instruction), system))
        columns["images"].append(list(problem.images))
        columns["answer"].append(problem.answer)
        columns["hint"].append(asdict(hint) if hint else None)
        columns["prompt_with_hint"].append(ready_made_hint_text(problem, instruction))
        columns["instruction"].append(instruction)
        columns["solution"].append((solutions or {}).get(problem.id))
    features = datasets.Features(
        {
            "id": _TEXT,
            "prompt": _MESSAGES,
            "images": _IMAGES,
            "answer": _TEXT,
            "hint": {"look": _TEXT, "reason": _TEXT},
            "prompt_with_hint": _TEXT,
            "instruction": _TEXT,
            "solution": _TEXT,
        }
    )
    return datasets.Dataset.from_dict(columns, features=features)


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
    return datasets.Dataset.from_dict(columns, features=features)
