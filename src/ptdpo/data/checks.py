"""Find every bad problem before anything is trained."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ptdpo.config import BadRows
from ptdpo.data.contexts import Material, context_named, context_row
from ptdpo.data.images import open_image
from ptdpo.data.prompts import THINKING_INSTRUCTION, conversation, question_text
from ptdpo.data.rendering import render
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
    hints: Mapping[str, Hint] | None = None,
    solutions: Mapping[str, str] | None = None,
    context: str = "hint",
    instruction: str = THINKING_INSTRUCTION,
) -> CheckedProblems:
    """Sort problems into good and bad: missing or broken image, empty question or answer, over-long prompt.

    Args:
        problems: what to check; every image is opened.
        processor: counts tokens, visual ones included; ``None``: lengths are not checked.
        max_prompt_tokens: longest prompt of policy and teacher. A hint counts wherever there is one, so that
            recipes with and without tutoring keep the same problems.
        hints: by problem id; without one, the problem's own ``prompt_with_hint`` counts.
        solutions: by problem id.
        context: what the teacher is shown counts too, unless it is known only when a group has answered.
        instruction: appended to the question.
    """
    good, bad = [], []
    for problem in problems:
        images, reason = _opened(problem)
        if not reason and processor is not None and max_prompt_tokens is not None:
            material = Material(problem, (hints or {}).get(problem.id), (solutions or {}).get(problem.id), instruction)
            prompts = _prompts(material, context)
            reason = _too_long(processor, prompts, images, max_prompt_tokens)
        if reason:
            bad.append(BadRow(problem.id, reason))
        else:
            good.append(problem)
    return CheckedProblems(good, bad)


def _opened(problem: Problem) -> tuple[list[Any], str]:
    """Return the images, or why the problem is bad."""
    if not problem.problem.strip():
        return [], "empty question"
    if not problem.answer.strip():
        return [], "empty answer"
    try:
        return [open_image(path) for path in problem.images], ""
    except ValueError as error:
        return [], str(error)


def _prompts(material: Material, context: str) -> dict[str, str]:
    """Return what the policy reads, and what teachers read, by their names in a report."""
    question, row = question_text(material.problem, material.instruction), context_row(material)
    told = {name: context_named(name).text(question, row, None) for name in ("hint", context)}
    return {"prompt": question} | {f"prompt with its {name}": text for name, text in told.items() if text}


def _too_long(processor: Any, prompts: Mapping[str, str], images: Sequence[Any], limit: int) -> str:
    """Return why the longest prompt is too long; empty if it is not."""
    # The images cost the same in each: only the longest text is measured with them.
    name = max(prompts, key=lambda one: prompt_length(processor, prompts[one], ())) if len(prompts) > 1 else "prompt"
    length = prompt_length(processor, prompts[name], images)
    return "" if length <= limit else f"{name} of {length} tokens, more than {limit}"


def prompt_length(processor: Any, text: str, images: Sequence[Any]) -> int:
    """Return the length in tokens of a rendered prompt, every visual token counted."""
    given: dict[str, Any] = {"text": [render(processor, conversation(text), images)], "add_special_tokens": False}
    if images:
        given["images"] = [list(images)]
    return len(processor(**given)["input_ids"][0])


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
