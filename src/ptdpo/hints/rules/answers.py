"""The verified answer, read into the forms in which a hint could give it away."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ptdpo.records import Problem
from ptdpo.text import MAX_ANSWER
from ptdpo.text.amounts import amounts
from ptdpo.text.arithmetic import Amount
from ptdpo.text.tokens import Token, tokenise
from ptdpo.text.units import units_in_text
from ptdpo.text.words import stem, vocabulary

_LETTER = re.compile(r"\(?([A-Za-z])[).:]?")
# "(A) red", "B. blue"; with the signs of Chinese and Japanese no space follows: "（A）红", "B．蓝".
_MARK = r"(?:\(([A-H])\)|([A-H])[.):])\s+|(?:（([A-H])）|([A-H])[．、：）])\s*"
_NEXT_MARK = r"(?:\([A-H]\)|[A-H][.):])\s|（[A-H]）|[A-H][．、：）]"
_OPTION = re.compile(rf"(?:(?<=\s)|^)(?:{_MARK})(\S[^\n]{{0,300}}?)(?=\s+(?:{_NEXT_MARK})|\n|$)", re.M)
_ARTICLES = vocabulary("a an the to")
# Options further on are not read: hostile questions must cost no time.
_MAX_QUESTION = 20_000


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as numbers, as words, as a letter of a choice.

    Attributes:
        text: as verified; for a choice given by letter, the option's text.
        numbers: of a numeric answer, in order; several for a ratio, a point or a time.
        words: stems of a worded answer without articles.
        letter: the option's letter, empty if the question is no choice.
        options: texts of all options by letter.
        stem: the question before its options.
    """

    text: str
    numbers: tuple[Amount, ...]
    words: tuple[str, ...]
    letter: str
    options: dict[str, str]
    stem: str


def read_answer(problem: Problem) -> Answer:
    """Return the answer of a problem; overlong answers are compared by their first part."""
    options = options_by_letter(problem.problem)
    text, letter = problem.answer.strip()[:MAX_ANSWER], ""
    if options:
        letter = _letter_of(text, options)
        text = options.get(letter, text)
    tokens = tokenise(text)
    return Answer(text, _numbers(tokens), _words(tokens), letter, options, _before_options(problem.problem, options))


def options_by_letter(question: str) -> dict[str, str]:
    """Return the options that a question lists as (A) ..., A. ... or A) ..., by letter; at least two, in order.

    Not ``rewards.read_options``, which grades: that reads more spellings and takes the last list of a question. Here
    a letter counts only in front of a space, and the first list is taken, which also says where the question ends.
    """
    options: dict[str, str] = {}
    for found in _OPTION.finditer(question[:_MAX_QUESTION]):
        letter = next(filter(None, found.groups()))
        if letter == chr(ord("A") + len(options)):
            options[letter] = found[5].strip()
    return options if len(options) > 1 else {}


def _before_options(question: str, options: dict[str, str]) -> str:
    found = _OPTION.search(question[:_MAX_QUESTION]) if options else None
    return question[: found.start()] if found else question


def _letter_of(answer: str, options: dict[str, str]) -> str:
    found = _LETTER.fullmatch(answer) or re.match(r"\(?([A-Ha-h])[).:]\s", answer)
    if found and found[1].upper() in options:
        return found[1].upper()
    same = [letter for letter, text in options.items() if text.lower() == answer.lower()]
    return same[0] if same else ""


def _numbers(tokens: Sequence[Token]) -> tuple[Amount, ...]:
    """Return the numbers of a numeric answer: nothing but numbers, signs and units, after an optional "x ="."""
    while len(tokens) > 1 and tokens[0].kind == "word" and tokens[1].low in ("=", ":"):
        tokens = tokens[2:]
    found = list(amounts(tokens))
    if not found:
        return ()
    first = found[0]
    strange = [t for t in tokens[: first.first] if t.kind != "sign"]
    strange += [t for t in tokens if t.kind == "label"]
    letters = (t for t in tokens[first.last + 1 :] if t.kind == "word" and len(t.text) == 1)
    strange += [t for t in letters if t.low not in units_in_text()]
    if strange:
        return ()
    tops: list[Amount] = []
    for amount in found:
        if not tops or amount.first > tops[-1].last:
            tops.append(amount)
    if len(tops) > 1 and any(t.low == "^" for t in tokens):
        tops = tops[:1]
    return tuple(tops)


def _words(tokens: Sequence[Token]) -> tuple[str, ...]:
    return tuple(stem(t.low) for t in tokens if t.kind != "sign" and t.low not in _ARTICLES)
