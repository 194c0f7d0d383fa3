"""What a model is shown when it is evaluated: the question only, never a hint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ptdpo.data.images import open_image
from ptdpo.data.prompts import IMAGE_MARKER, interleave_images, question_text
from ptdpo.records import Problem


def prompt_parts(problem: Problem, instruction: str | None) -> list[str | Path]:
    """Return text and image paths in the order in which the model sees them.

    Args:
        problem: the question.
        instruction: follows the question; ``None``: the question is the whole prompt, used as it is. Each image stands
            where its marker is; in front, if there is no marker.
    """
    images = [Path(path) for path in problem.images]
    return interleave_images(problem.problem if instruction is None else question_text(problem, instruction), images)


def chat_messages(parts: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Return the chat message of a prompt, its images opened."""
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": open_image(part)}
        for part in parts
    ]
    return [{"role": "user", "content": content}]


def prompt_text(parts: Sequence[str | Path]) -> str:
    """Return a prompt as text, a marker where each image stands."""
    return "".join(part if isinstance(part, str) else IMAGE_MARKER for part in parts)
