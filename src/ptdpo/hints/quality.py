"""Is a hint fit to be shown to the teacher? Four rules, each in a file of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from ptdpo.hints.rules.answer_leak import answer_leaks
from ptdpo.hints.rules.evidence import names_evidence
from ptdpo.hints.rules.full_solution import solution_signs
from ptdpo.hints.rules.intermediate import exposed_numbers
from ptdpo.hints.rules.question import Question
from ptdpo.records import Hint, Problem
from ptdpo.text.tokens import tokenise

Reason = Literal["answer", "intermediate", "no_evidence", "solution"]
REASONS: tuple[Reason, ...] = get_args(Reason)


@dataclass(frozen=True, slots=True)
class HintVerdict:
    """Whether a hint may be used, and if not, why.

    Attributes:
        ok: no rule objects.
        reasons: one line for each rule that objects: its name (see ``REASONS``), a colon, what it found.
    """

    ok: bool
    reasons: list[str]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the rules that object."""
        return tuple(reason.partition(":")[0] for reason in self.reasons)


def check_hint(problem: Problem, hint: Hint) -> HintVerdict:
    """Return whether a hint keeps the answer to itself, names what to look at, and leaves the solving to the reader.

    The rules read text only: they call no model, use no network, and take time linear in the length of the hint.
    Beyond ``tokens.MAX_CHARACTERS`` nothing is read: such a hint is rejected as a full solution.
    """
    tokens = tokenise(hint.look, hint.reason)
    question = Question.read(tokenise(problem.problem))
    found: list[tuple[Reason, str | None]] = [
        ("answer", _quoted("the answer can be read off", answer_leaks(problem, hint, tokens, question))),
        ("intermediate", _quoted("a number that the question does not state", exposed_numbers(tokens, question))),
        ("solution", next(solution_signs(hint, tokens), None)),
    ]
    pointing = tokenise(hint.look) or tokens
    if problem.images and not names_evidence(pointing, question):
        found.append(("no_evidence", "it names nothing that can be seen in the image"))
    reasons = [f"{name}: {detail}" for name, detail in found if detail is not None]
    return HintVerdict(not reasons, reasons)


def _quoted(what: str, places: Iterator[str]) -> str | None:
    """Return what was found with the first place where it stands, or ``None`` if it stands nowhere."""
    place = next(places, None)
    return None if place is None else f'{what}: "{place}"'
