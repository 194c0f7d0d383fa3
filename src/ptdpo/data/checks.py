"""Find every bad problem before anything is trained, answered or hinted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ptdpo.config import BadRows
from ptdpo.data.contexts import Material, context_columns, context_named, context_row
from ptdpo.data.images import open_image
from ptdpo.data.prompts import THINKING_INSTRUCTION, conversation, placed_text, question_text
from ptdpo.data.rendering import render
from ptdpo.data.scan import text_fault
from ptdpo.data.teacher_images import VIEWS, TeacherImages, view_of, with_places
from ptdpo.data.templates import EndlessTemplateError
from ptdpo.records import BadRow, Hint, Problem

_LISTED = 10


@dataclass(frozen=True, slots=True)
class CheckedProblems:
    """The problems that can be used, and those that cannot."""

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
    teacher: TeacherImages | None = None,
    instruction: str = THINKING_INSTRUCTION,
) -> CheckedProblems:
    """Sort problems into good and bad: text, images, and whatever the processor refuses.

    Args:
        problems: what to check; every image is opened.
        processor: of the model that reads them: what it raises makes a row bad, and it counts tokens, visual ones
            included; ``None``: what depends on the model is not checked.
        max_prompt_tokens: longest prompt of policy and teacher; ``None``: any. A hint counts wherever there is one, so
            that recipes with and without tutoring keep the same problems.
        hints: by problem id; without one, the problem's own ``prompt_with_hint`` counts.
        solutions: by problem id.
        context: what the teacher is shown counts too, unless it is known only when a group has answered.
        teacher: which images it sees, which count too; ``None``: nobody says.
        instruction: appended to the question.
    """
    special = special_tokens(processor)
    good, bad = [], []
    views: dict[str, list[Any]] = {}
    for problem in problems:
        material = Material(problem, (hints or {}).get(problem.id), (solutions or {}).get(problem.id), instruction)
        reason = text_fault(problem) or _special_token(material, special)
        images: list[Any] = []
        if not reason:
            images, reason = opened(problem)
        if not reason:
            views, reason = _views(problem, images, teacher)
        if not reason and processor is not None:
            prompts = _prompts(material, context)
            reason = _refused(processor, prompts, images, max_prompt_tokens)
            for name, seen in views.items():
                reason = reason or _refused(processor, prompts, seen, max_prompt_tokens, len(images), f"its {name}: ")
        if reason:
            bad.append(problem.bad(reason))
        else:
            good.append(problem)
    return CheckedProblems(good, bad)


def special_tokens(processor: Any) -> list[str]:
    """Return the texts that a processor's tokenizer reads as structure of the prompt; none without a processor."""
    tokenizer = getattr(processor, "tokenizer", processor)
    return [] if tokenizer is None else [str(token) for token in tokenizer.all_special_tokens]


def _special_token(material: Material, special: Sequence[str]) -> str:
    """Return which text of a problem would be read as structure of the prompt; empty if none would."""
    shown = {name: column.fill(material) for name, column in context_columns().items()}
    texts = {"question": material.problem.problem}
    for name, value in shown.items():
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value or ""]
        texts[name] = "\n".join(parts)
    found = [(name, token) for name, text in texts.items() for token in special if token in text]
    return f"the {found[0][0]} holds the special token {found[0][1]}" if found else ""


def opened(problem: Problem) -> tuple[list[Any], str]:
    """Return the images of a problem, or why one of them cannot be read."""
    return _opened(problem.images, "image {}: " if len(problem.images) > 1 else "")


def _opened(paths: Sequence[str], of: str) -> tuple[list[Any], str]:
    images = []
    for number, path in enumerate(paths, start=1):
        try:
            images.append(open_image(path))
        except ValueError as error:
            return [], f"{of.format(number)}{error}"
    return images, ""


def _views(problem: Problem, images: Sequence[Any], teacher: TeacherImages | None) -> tuple[dict[str, list[Any]], str]:
    """Return the images that a teacher sees in the place of the question's, by column, or why it cannot.

    All are opened, whether a run shows them or not.
    """
    seeing = teacher or TeacherImages("teacher", contrasted=True)
    question = conversation(placed_text(problem.problem))
    views: dict[str, list[Any]] = {}
    for column in VIEWS:
        others, fault = _opened(getattr(problem, column), f"image {{}} of {column}: ")
        if fault:
            return {}, fault
        if column not in seeing.columns or not others:
            continue
        seen = view_of(images, {column: others}, seeing.shown, column) or []
        try:
            with_places(question, len(images), len(seen), beside=seeing.shown == "both")
        except ValueError as error:
            if teacher is not None:
                return {}, f"{column}: {error}"
            continue
        views[column] = seen
    return views, ""


def _prompts(material: Material, context: str) -> dict[str, str]:
    """Return what the policy reads, and what teachers read, by their names in a report."""
    question, row = question_text(material.problem, material.instruction), context_row(material)
    told = {name: context_named(name).text(question, row, None) for name in ("hint", context)}
    # Which of several hints is read is not known yet, and a vague one may be the longest.
    for level, text in enumerate(row["hints"], start=1):
        told[f"hint {level}"] = context_named("hints").text(question, {**row, "hints": [text]}, None)
    return {"prompt": question} | {f"prompt with its {name}": text for name, text in told.items() if text}


def _refused(
    processor: Any,
    prompts: Mapping[str, str],
    images: Sequence[Any],
    limit: int | None,
    own: int | None = None,
    which: str = "",
) -> str:
    """Return why the processor refuses a row, or its longest prompt is too long; empty if neither is so."""
    # Processors raise errors of every kind: on shapes, sizes, characters.
    try:
        # The images cost the same in each: only the longest text is measured with them.
        longest = max(prompts, key=lambda name: text_length(processor, prompts[name])) if len(prompts) > 1 else "prompt"
        length = prompt_length(processor, prompts[longest], images, own)
    except EndlessTemplateError:
        raise
    except Exception as error:
        return f"{which}the processor refuses it ({' '.join(str(error).split()) or type(error).__name__})"
    return f"{which}{longest} of {length} tokens, more than {limit}" if limit is not None and length > limit else ""


def text_length(processor: Any, text: str) -> int:
    """Return the length of a text in tokens; markers of images count as they are written."""
    return len(getattr(processor, "tokenizer", processor)(text, add_special_tokens=False)["input_ids"])


def prompt_length(processor: Any, text: str, images: Sequence[Any], own: int | None = None) -> int:
    """Return the length in tokens of a rendered prompt, every visual token counted.

    Args:
        processor: of the model.
        text: of the user's message.
        images: that stand in it.
        own: how many images the text speaks of, if those are a teacher's; ``None``: of these.
    """
    messages = conversation(text) if own is None else with_places(conversation(text), own, len(images))
    given: dict[str, Any] = {"text": [render(processor, messages, images)], "add_special_tokens": False}
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
    listed = ", ".join(f"{halves_escaped(row.id)} ({row.reason})" for row in bad[:_LISTED])
    more = f" and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
    return f"{origin}: {len(bad)} bad row{'s' if len(bad) > 1 else ''}: {listed}{more}"


def halves_escaped(text: str) -> str:
    """Return a text that any file takes: halves of characters, which JSON may hold, are written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
