"""Find every bad problem before anything is trained."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ptdpo.config import BadRows
from ptdpo.data.images import open_image
from ptdpo.data.prompts import (
    THINKING_INSTRUCTION,
    attach_images,
    conversation,
    hint_text,
    question_text,
    with_hint,
)
from ptdpo.records import Hint, Problem

_LISTED = 10


@dataclass(frozen=True, slots=True)
class BadRow:
    """A problem that cannot be trained on, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class CheckedProblems:
    """The problems that can be trained on, and those that cannot."""

    good: list[Problem]
    bad: list[BadRow]


def find_bad_rows(
    problems: Iterable[Problem],
    *,
    processor: Any = None,
    max_prompt_tokens: int | None = None,
    hints: dict[str, Hint] | None = None,
    instruction: str = THINKING_INSTRUCTION,
) -> CheckedProblems:
    """Sort problems into good and bad: missing or broken image, empty question or answer, over-long prompt.

    Args:
        problems: what to check; every image is opened.
        processor: counts tokens, visual ones included; ``None``: lengths are not checked.
        max_prompt_tokens: longest prompt, with the hint if there is one.
        hints: by problem id.
        instruction: appended to the question.
    """
    good, bad = [], []
    for problem in problems:
        reason = _fault(problem, processor, max_prompt_tokens, (hints or {}).get(problem.id), instruction)
        if reason is None:
            good.append(problem)
        else:
            bad.append(BadRow(problem.id, reason))
    return CheckedProblems(good, bad)


def _fault(
    problem: Problem, processor: Any, max_prompt_tokens: int | None, hint: Hint | None, instruction: str
) -> str | None:
    if not problem.problem.strip():
        return "empty question"
    if not problem.answer.strip():
        return "empty answer"
    try:
        images = [open_image(path) for path in problem.images]
    except ValueError as error:
        return str(error)
    if processor is None or max_prompt_tokens is None:
        return None
    text = question_text(problem, instruction)
    length = prompt_length(processor, with_hint(text, hint_text(hint)) if hint else text, images)
    return None if length <= max_prompt_tokens else f"prompt of {length} tokens, more than {max_prompt_tokens}"


def prompt_length(processor: Any, text: str, images: Sequence[Any]) -> int:
    """Return the length in tokens of a rendered prompt, every visual token counted."""
    rendered = processor.apply_chat_template(
        attach_images(conversation(text), images), tokenize=False, add_generation_prompt=True
    )
    inputs = processor(text=[rendered], images=[list(images)] if images else None, add_special_tokens=False)
    return len(inputs["input_ids"][0])


def keep_good(checked: CheckedProblems, policy: BadRows, origin: str) -> tuple[list[Problem], str]:
    """Return the good problems and a report, empty if all are good.

    Raises:
        ValueError: if there are bad rows and the policy is ``refuse``, or no row is good.
    """
    report = describe_bad_rows(checked.bad, origin)
    if checked.bad and policy == "refuse":
        raise ValueError(f"{report}; mend them, or set data.bad_rows=drop")
    if not checked.good:
        raise ValueError(f"{origin}: no usable row" + (f"; {report}" if report else ""))
    return checked.good, report


def describe_bad_rows(bad: Sequence[BadRow], origin: str) -> str:
    """Return one line that counts the bad rows and lists the first ones by id."""
    if not bad:
        return ""
    listed = ", ".join(f"{row.id} ({row.reason})" for row in bad[:_LISTED])
    more = f" and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
    return f"{origin}: {len(bad)} bad row{'s' if len(bad) > 1 else ''}: {listed}{more}"
