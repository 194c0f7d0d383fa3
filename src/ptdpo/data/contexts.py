"""What a teacher may be shown besides the question: one table, which everything that asks about a context reads.

A context says which columns of the training data hold what it shows, how a problem fills them, how it changes the
user's message, and whether it can be told before the group has answered. To add one, add an entry to ``CONTEXTS``.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import datasets

from ptdpo.data.prompts import (
    THINKING_INSTRUCTION,
    hint_text,
    placed_text,
    ready_made_hint_text,
    unmarked,
    with_hint,
)
from ptdpo.records import Hint, Problem
from ptdpo.text.thinking import last_said

Row = Mapping[str, Any]

_TEXT = datasets.Value("string")


@dataclass(frozen=True, slots=True)
class Material:
    """A problem and what was made for it: all that a row of the training data is filled from."""

    problem: Problem
    hint: Hint | None = None
    solution: str | None = None
    instruction: str = THINKING_INSTRUCTION


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the training data: its name, its type in ``datasets``, and how a problem fills it."""

    name: str
    feature: Any
    fill: Callable[[Material], Any]


@dataclass(frozen=True, slots=True)
class Context:
    """One answer to "what is the teacher shown?".

    Attributes:
        name: value of ``tutoring_context``.
        text: (question as the policy reads it, row, right response of the same group or ``None``) -> what the teacher
            reads in its place; ``None`` where the row, or the group, lacks what is shown.
        columns: any one of them must be in the training data; empty: only the prompt is read.
        needs_group: it is known only when the group has answered, so a group that fails as a whole never has it.
        shows_response: its words introduce a response to the question, and a wrong one can stand in its place.
        adaptive: it is a list, and which of it the teacher reads is decided while training, group by group.
        missing: what to say when no problem of a data set has it.
    """

    name: str
    text: Callable[[str, Row, str | None], str | None]
    columns: tuple[Column, ...] = ()
    needs_group: bool = False
    shows_response: bool = False
    adaptive: bool = False
    missing: str = ""

    def holds(self, column: str) -> bool:
        """Return whether what it shows may stand in a column."""
        return any(one.name == column for one in self.columns)

    @property
    def shows_nothing(self) -> bool:
        """Whether the teacher reads just what the policy reads."""
        return not self.columns and not self.needs_group


def context_named(name: str) -> Context:
    """Return a context of the table.

    Raises:
        ValueError: on an unknown name; lists all.
    """
    if name not in CONTEXTS:
        raise ValueError(f"tutoring_context={name!r}: must be one of {', '.join(CONTEXTS)}")
    return CONTEXTS[name]


def response_contexts() -> list[str]:
    """Return the names of the contexts whose words introduce a response."""
    return [context.name for context in CONTEXTS.values() if context.shows_response]


def context_columns() -> dict[str, Column]:
    """Return the columns of all contexts by name."""
    return {column.name: column for context in CONTEXTS.values() for column in context.columns}


def context_row(material: Material) -> dict[str, Any]:
    """Return what the contexts' columns hold for a problem, and the instruction that tells where a hint goes."""
    filled = {name: column.fill(material) for name, column in context_columns().items()}
    return {**filled, "instruction": material.instruction}


def _hinted(question: str, row: Row, sibling: str | None) -> str | None:
    """[x; h] of (9): ``hint`` behind the question, or else ``prompt_with_hint`` in its place."""
    hint = _hint_as_text(row.get("hint"), row.get("id", "?"))
    if hint:
        return with_hint(question, hint, row.get("instruction") or "")
    return placed_text(row.get("prompt_with_hint") or "") or None


def _hint_as_text(hint: Any, row_id: Any) -> str | None:
    if hint is None or isinstance(hint, str):
        return unmarked(hint.strip()) if hint else None
    look, reason = hint.get("look"), hint.get("reason")
    if not look and not reason:
        others = [name for name, value in hint.items() if value]
        if others:
            raise ValueError(f"row {row_id}: a hint is a text, or has 'look' and 'reason', found {', '.join(others)}")
        return None
    if not look or not reason:
        raise ValueError(f"row {row_id}: a hint needs both 'look' and 'reason', got {dict(hint)}")
    return hint_text(Hint(look, reason))


def hint_look(row: Row) -> str:
    """Return the vague part of a row's hint, where to look, as the teacher reads it; empty if it has no parts."""
    hint = row.get("hint")
    return unmarked(f"Hint. Look: {hint['look']}".strip()) if isinstance(hint, Mapping) and hint.get("look") else ""


def hint_texts(row: Row) -> list[str]:
    """Return a row's hints from vague to explicit, as the teacher reads them; none if it has none.

    They are its ``hints``; without those, where its ``hint`` says to look and then all of it, or ``hint`` as a text.

    One text in ``hints`` is a list of it, as in files; null and empty texts are none.

    Raises:
        ValueError: if ``hints`` holds something else, or a hint has only one of its two fields.
    """
    held = row.get("hints")
    given: list[Any] = [] if held is None else [held] if isinstance(held, str | Mapping) else list(held)
    odd = next((one for one in given if one is not None and not isinstance(one, str)), None)
    if odd is not None:
        raise ValueError(f"row {row.get('id', '?')}: hints must be a list of texts, found {type(odd).__name__} in it")
    listed = [unmarked(text.strip()) for text in given if text and text.strip()]
    if listed:
        return listed
    whole = _hint_as_text(row.get("hint"), row.get("id", "?"))
    return [text for text in (hint_look(row), whole) if text]


def _most_explicit(question: str, row: Row, sibling: str | None) -> str | None:
    texts = hint_texts(row)
    return with_hint(question, texts[-1], row.get("instruction") or "") if texts else _hinted(question, row, sibling)


def _told(question: str, introduction: str, told: Any) -> str | None:
    # An answer may be the number 0.
    if told is None or told == "":
        return None
    return f"{question}\n\n{introduction}\n{unmarked(str(told))}\n\nNow respond in your own words."


_HINT = (
    Column("hint", {"look": _TEXT, "reason": _TEXT}, lambda m: asdict(m.hint) if m.hint else None),
    Column("prompt_with_hint", _TEXT, lambda m: ready_made_hint_text(m.problem, m.instruction)),
)
_ALL = (
    Context(
        "hint",
        _hinted,
        _HINT,
        missing="no problem has a hint: set data.hints to a hints file, use data with a prompt_with_hint column, or "
        "choose a preset without tutoring",
    ),
    # Which of them the teacher reads is decided group by group, see ``ptdpo.train.rollouts.hint_choice``.
    Context(
        "hints",
        _most_explicit,
        (Column("hints", datasets.List(_TEXT), lambda m: list(m.problem.hints)), *_HINT),
        adaptive=True,
        missing="no problem has hints: use data with a hints column (from vague to explicit), or set data.hints to a "
        "hints file, whose hints have two levels",
    ),
    Context("question", lambda question, row, sibling: question),
    Context(
        "answer",
        lambda question, row, sibling: _told(question, "The right answer is:", row.get("answer")),
        (Column("answer", _TEXT, lambda m: m.problem.answer),),
        missing="no problem has an answer",
    ),
    Context(
        "solution",
        lambda question, row, sibling: _told(question, "This is a worked solution:", row.get("solution")),
        (Column("solution", _TEXT, lambda m: m.solution),),
        shows_response=True,
        missing="no problem has a solution: set data.solutions to a solutions file, or choose another context",
    ),
    Context(
        "feedback",
        lambda question, row, sibling: _told(
            question, "This was said of a failed answer to the question:", row.get("feedback")
        ),
        (Column("feedback", _TEXT, lambda m: m.problem.feedback),),
        missing="no problem has feedback: use data with a feedback column, or PTDTrainer(..., feedback=FUNCTION)",
    ),
    Context(
        "sibling",
        lambda question, row, sibling: _told(
            question, "This is a right response to the question:", last_said(sibling or "")
        ),
        needs_group=True,
        shows_response=True,
    ),
)
CONTEXTS: Mapping[str, Context] = {context.name: context for context in _ALL}
