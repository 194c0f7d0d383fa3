"""Our own comparison of answers: strict (the same value in any notation) and lenient (what a benign reader accepts).

Text is compared in one plain spelling, numbers exactly, parts one by one. Only expressions that are not plainly
equal need symbolic mathematics; that is left to a worker.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ptdpo.rewards.choices import match_choice
from ptdpo.rewards.notation import plain, without_spaces
from ptdpo.rewards.parts import Parts, as_interval, read_parts
from ptdpo.rewards.plain_text import answers_match
from ptdpo.rewards.quantities import nearly_same_quantity, read_quantity, same_quantity, spelled_out, split_unit

# Longer "answers" are runaway generations. The bound also caps the cost of exact arithmetic.
MAX_ANSWER = 256

Own = Literal["strict", "lenient"]
Equal = Callable[[str, str], bool]

_ASSIGNED = re.compile(r"([^=<>]{1,16})=([^=<>]+)")
_NAME = re.compile(r"(?:the )?(?:m ?)?(?:angle )?[a-z][a-z '_0-9]*(?:\([a-z]\))?")
_FUNCTIONS = re.compile(r"sqrt|sin|cos|tan|log|ln|exp|pi|oo")
_EXPRESSION = re.compile(r"[0-9a-z+\-*/^().! ]+")
_VALUE = re.compile(r"[0-9+\-*/^!]|sqrt|pi")
_LEAD = re.compile(
    r"(?:(?:therefore|thus|so|hence),? )?(?:the )?(?:(?:final|correct) )?answer(?: is|:)\s*|there (?:is|are) "
    r"|(?:about|approximately|approx\.?|around|nearly|in|in the year|year) (?=[\d.])|[~≈]\s*"
    r"|(?:the|an?) (?!and |or )(?=[a-z]{3})"
)
_POINT = re.compile(r"^[a-z]'?(?=\([^()]*,[^()]*\)$)")
_GAP = re.compile(r"\d\s+\d")
_FIRST_WORD = re.compile(r"(yes|no|true|false)\b.*")


class NeedsWorkerError(Exception):
    """The verdict needs symbolic mathematics."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two answers are compared.

    Attributes:
        lenient: forgive missing units, rounding, order and a sentence around the answer.
        equal: decides whether two expressions are equal; may raise ``NeedsWorkerError``.
    """

    lenient: bool
    equal: Equal

    def match(self, given: str, expected: str, options: Sequence[str] = ()) -> bool:
        """Return whether two answers match; overlong and empty ones never do."""
        if max(len(given), len(expected)) > MAX_ANSWER:
            return False
        if not _GAP.search(given) and answers_match(given, expected):
            return True
        first, second = plain(given), plain(expected)
        if self.lenient:
            first, second = (_POINT.sub("", _drop_lead(text)) for text in (first, second))
        if not first or not second:
            return False
        if without_spaces(first) == without_spaces(second):
            return True
        chosen = match_choice(first, second, [plain(option) for option in options], self._same_option)
        return self._same(first, second) if chosen is None else chosen

    def _same_option(self, given: str, option: str) -> bool:
        return without_spaces(given) == without_spaces(option) or self._same(given, option)

    def _same(self, given: str, expected: str) -> bool:
        given, expected = _same_sides(given, expected)
        if without_spaces(given) == without_spaces(expected):
            return True
        if self.lenient:
            given, expected = spelled_out(given), spelled_out(expected)
        first, second = read_quantity(given), read_quantity(expected)
        if first is not None and second is not None:
            return nearly_same_quantity(first, second) if self.lenient else same_quantity(first, second)
        if self.lenient:
            given, expected = as_interval(given), as_interval(expected)
            word = _FIRST_WORD.fullmatch(given)
            if word and word[1] == expected:
                return True
        one, other = read_parts(given), read_parts(expected)
        if one is not None and other is not None:
            return self._same_parts(one, other)
        if one is not None or other is not None:
            return False
        (given, unit), (expected, wanted) = split_unit(given), split_unit(expected)
        if unit != wanted and not (self.lenient and "" in (unit[0], wanted[0])):
            return False
        return _is_expression(given) and _is_expression(expected) and self.equal(given, expected)

    def _same_parts(self, given: Parts, expected: Parts) -> bool:
        kinds = {given.kind, expected.kind}
        # With three parts or more, brackets of either shape make a list, no interval.
        alike = len(kinds) == 1 or (len(given.elements) > 2 and kinds == {"()", "[]"})
        if len(given.elements) != len(expected.elements) or not (alike or (self.lenient and kinds & {"", ";"})):
            return False
        pairs = zip(given.elements, expected.elements, strict=True)
        if given.ordered and expected.ordered and not (self.lenient and given.kind == expected.kind == ""):
            return all(self._same(*pair) for pair in pairs)
        left = list(given.elements)
        for element in expected.elements:
            partner = next((candidate for candidate in left if self._same(candidate, element)), None)
            if partner is None:
                return False
            left.remove(partner)
        return True


def match_here(mode: Own, given: str, expected: str, options: Sequence[str]) -> bool | None:
    """Return the verdict where it needs no symbolic mathematics, else ``None``; takes microseconds."""
    try:
        return Comparison(mode == "lenient", _ask_a_worker).match(given, expected, options)
    except NeedsWorkerError:
        return None


def _ask_a_worker(given: str, expected: str) -> bool:
    raise NeedsWorkerError


def _drop_lead(text: str) -> str:
    rest = _LEAD.sub("", text, count=1) if _LEAD.match(text) else text
    return rest or text


def _same_sides(given: str, expected: str) -> tuple[str, str]:
    """Return what is left to compare of "x = 5" and "5", or of "x = 5" and "x = 6"."""
    first, second = _ASSIGNED.fullmatch(given), _ASSIGNED.fullmatch(expected)
    if first and second:
        same = first[1].replace(" ", "") == second[1].replace(" ", "")
        return (first[2].strip(), second[2].strip()) if same else (given, expected)
    if first and _NAME.fullmatch(first[1].strip()):
        return first[2].strip(), expected
    if second and _NAME.fullmatch(second[1].strip()):
        return given, second[2].strip()
    return given, expected


def _is_expression(text: str) -> bool:
    """Return whether a text is arithmetic in single letters; words would be read as products of theirs."""
    names = _FUNCTIONS.sub(" ", text)
    return (
        bool(_EXPRESSION.fullmatch(text))
        and bool(_VALUE.search(text) or len(text) == 1)
        and all(len(run) <= 2 for run in re.findall(r"[a-z]+", names))
    )
