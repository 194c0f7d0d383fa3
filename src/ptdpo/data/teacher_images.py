"""Which images a teacher sees: those of the question, others in their place, or others beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ptdpo.data.prompts import IMAGE_MARKER, Prompt, image_places, written_parts

ImagesShown = Literal["question", "teacher", "both"]
TEACHER, CONTRAST = "teacher_images", "contrast_images"
# Columns of the training data that hold images beside those of the question.
VIEWS = (TEACHER, CONTRAST)


@dataclass(frozen=True, slots=True)
class TeacherImages:
    """What of a row's images a teacher reads.

    Attributes:
        shown: value of ``tutoring_images``: ``question``, ``teacher`` (the column ``teacher_images`` in their place) or
            ``both`` (behind them).
        contrasted: what it reads so is contrasted with what it reads of ``contrast_images``.
    """

    shown: ImagesShown = "question"
    contrasted: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that a row must fill to be tutored."""
        return (*((TEACHER,) if self.shown != "question" else ()), *((CONTRAST,) if self.contrasted else ()))


def view_of(own: Sequence[Any], row: Mapping[str, Any], shown: ImagesShown, column: str = TEACHER) -> list[Any] | None:
    """Return the images that a teacher sees; ``None`` where the row lacks them.

    Args:
        own: the images of the question.
        row: of the training data.
        shown: value of ``tutoring_images``.
        column: ``teacher_images``, or ``contrast_images`` for what that is contrasted with.
    """
    if shown == "question" and column == TEACHER:
        return list(own)
    others = list(row.get(column) or ())
    if not others:
        return None
    return [*own, *others] if shown == "both" else others


def with_places(prompt: Prompt, own: int, seen: int, *, beside: bool = True) -> Prompt:
    """Return a prompt with a place for each image that a teacher sees, or without any: they then stand in front.

    Images that stand in the prompt leave their places. Those that are shown beside the question's come last.

    Args:
        prompt: that of the policy, with what the teacher is shown.
        own: how many images the question has.
        seen: how many the teacher sees.
        beside: the question's are among them, and the others come behind; else all stand in their place.

    Raises:
        ValueError: if the prompt says where images stand, and there are neither as many nor more beside them.
    """
    if isinstance(prompt, str):
        return prompt
    emptied = [{**message, "content": _emptied(message["content"])} for message in prompt]
    places = image_places(emptied)
    if places in (0, seen):
        return emptied
    if places != own or seen < own or not beside:
        raise ValueError(
            f"the question says where its {places} images stand, and the teacher would see {seen} in their place: give "
            "as many, or show them beside the question's with tutoring_images=both"
        )
    last = max(number for number, message in enumerate(emptied) if message["role"] == "user")
    emptied[last]["content"] = _with_more(emptied[last]["content"], seen - own)
    return emptied


def _emptied(content: Any) -> Any:
    if content is None or isinstance(content, str):
        return content
    return [{"type": "image"} if part["type"] == "image" else part for part in written_parts(content)]


def _with_more(content: Any, count: int) -> Any:
    if isinstance(content, str):
        return f"{content}\n{IMAGE_MARKER * count}"
    return [*content, *[{"type": "image"}] * count]
