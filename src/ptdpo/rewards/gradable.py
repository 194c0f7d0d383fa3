"""Can an expected answer be graded soundly? Asked of a data set before it is trained on."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ptdpo.records import Answered, Problem
from ptdpo.rewards.choices import contradiction, letters_of, read_options, split_label
from ptdpo.rewards.compare import WORDS, cleaned, is_symbolic, kind_of, same_answer
from ptdpo.rewards.grading import grade_many
from ptdpo.rewards.wording import is_chemistry
from ptdpo.text import MAX_ANSWER
from ptdpo.text.notation import FUNCTIONS

# How responses usually write an answer; each must grade as right against itself.
_SPELLINGS = (
    ("in a box", "\\boxed{{{}}}"),
    ("in dollars", "\\boxed{{${}$}}"),
    ("with a full stop", "\\boxed{{{}.}}"),
    ("in bold", "\\boxed{{**{}**}}"),
    ("in a sentence", "The answer is {}."),
)
# What looks like mathematics; read as a text, only the very same text is right.
_MATHEMATICAL = re.compile(r"[=<>^√∫∑]|\d\s*[-+*/]")
# Commands that neither our reader nor math-verify is asked about.
_KNOWN = "|".join(
    (*FUNCTIONS, "root", "sum", "int", "iint", "oint", "prod", "lim", "binom", "lfloor", "rfloor", "lceil", "rceil")
)
_UNKNOWN = re.compile(rf"\\(?!(?:{_KNOWN})(?![a-zA-Z]))[a-zA-Z]+")


# Stands for math-verify, which must read it: in brackets it is the same and no longer the same text.
_IN_BRACKETS = ("in brackets", "\\boxed{{({})}}")
# What data sets write where an answer is missing.
_PLACEHOLDER = re.compile(r"[?_]+|nan|n/?a|null|tbd|todo|omitted|see (?:the )?\w+|略|见解析", re.IGNORECASE)
_CAPITAL_OPTIONS = re.compile(r"(?:^|[\s(（])A[).:）．、]")


@dataclass(frozen=True, slots=True)
class Ungradable:
    """An expected answer that cannot be graded soundly, and why."""

    id: str
    reason: str


def find_ungradable(problems: Sequence[Problem]) -> list[Ungradable]:
    """Return the problems whose answers cannot be graded soundly, in order.

    These are: answers that are too long, or read as a text although they look like mathematics; options that
    contradict each other or the answer, or do not have it; placeholders; brackets that never close; and answers that
    do not grade as right against themselves, in a box, in dollars, with a full stop, in bold, in a sentence.
    """
    found = {problem.id: reason for problem in problems if (reason := _fault(problem))}
    rest = [problem for problem in problems if problem.id not in found]
    items = [
        Answered(f"<think>x</think> {spelling.format(_bare(problem.answer))}", problem.answer, _options(problem))
        for problem in rest
        for _, spelling in _spellings(problem.answer)
    ]
    verdicts = iter(grade_many(items, batch_seconds=max(20.0, 0.1 * len(items))))
    for problem in rest:
        missed = [name for name, _ in _spellings(problem.answer) if not next(verdicts).accuracy]
        if missed:
            found[problem.id] = f"{problem.answer!r} is not right against itself {', '.join(missed)}"
    return [Ungradable(problem.id, found[problem.id]) for problem in problems if problem.id in found]


def _spellings(answer: str) -> tuple[tuple[str, str], ...]:
    return (*_SPELLINGS, _IN_BRACKETS) if is_symbolic(cleaned(answer)) else _SPELLINGS


def _fault(problem: Problem) -> str:
    options = _options(problem)
    if len(problem.answer) > MAX_ANSWER:
        return f"the answer has {len(problem.answer)} characters: longer than {MAX_ANSWER}, none is right"
    contradicts = contradiction(problem.answer, [cleaned(option) for option in options], same_answer)
    if contradicts:
        return contradicts
    text = cleaned(problem.answer)
    if _PLACEHOLDER.fullmatch(text):
        return f"{problem.answer!r} is a placeholder, no answer"
    if _is_none_of(text, problem):
        return f"{problem.answer!r} is none of the {len(options)} options"
    if not options and _is_unclosed(problem.answer):
        return f"{problem.answer!r} has a bracket that never closes"
    as_text = kind_of(problem.answer, options) == WORDS and _MATHEMATICAL.search(text) and not is_chemistry(text)
    if is_symbolic(text):
        return ""
    if as_text or _UNKNOWN.search(text):
        return f"{problem.answer!r} is read as a text: only the very same text is right"
    return ""


def _is_none_of(text: str, problem: Problem) -> bool:
    """Return whether a choice's answer is neither letters nor an option's text; "(a) ... (b) ..." may ask twice."""
    options = _options(problem)
    if not options or not _CAPITAL_OPTIONS.search(problem.problem) or letters_of(text) or split_label(text, True)[0]:
        return False
    return not any(same_answer(text, cleaned(option)) or same_answer(cleaned(option), text) for option in options)


def _is_unclosed(answer: str) -> bool:
    """Return whether a bracket opens and none closes; [1,3) closes, and so does ]1,3[."""
    bare = re.sub(r"\\[{}]|\\(?:left|right)\s*[.|]?", "", answer)
    square = bare.count("[") + bare.count("]")
    return bare.count("{") != bare.count("}") or (bare.count("(") + bare.count(")") + square) % 2 == 1


def _options(problem: Problem) -> tuple[str, ...]:
    return read_options(problem.problem)


def _bare(answer: str) -> str:
    """Return an answer without dollars, bold and boxes around it, which a spelling puts there again."""
    text = answer.strip().rstrip(".").strip("$*").strip()
    boxed = re.fullmatch(r"\\boxed\{(.*)\}", text)
    return boxed[1] if boxed else text
