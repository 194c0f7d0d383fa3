"""Multiple choice: the letter, "(B)", "B. 30", or the option's text."""

import re
from collections.abc import Callable, Sequence

from ptdpo.rewards.notation import SET_CLOSE, SET_OPEN

_KIND = "(?:the )?(?:correct )?(?:option|choice|answer|figure|picture|image|shape|pattern)?(?: is)?"
_LETTER = re.compile(_KIND + r"[:\s]*[(\[]?([a-j])[)\].:]?(?: because .*| since .*)?")
_LABELLED = re.compile(r"(?:option |choice )?(?:\(([a-j])\)|([a-j])[).:])\s*(\w.*|[^,;&\s].*)")
_BRACKETS = re.compile(f"[()\\[\\]{SET_OPEN}{SET_CLOSE}]")
_LETTERS = re.compile(r"[a-j](?:\s*(?:,|;|&|and)\s*[a-j])+")
_RUN = re.compile(r"[a-j]{2,10}")
_QUESTION_OPTION = re.compile(r"(?:^|[\s;,])\(?([A-J])(?:\)|[.:](?=\s))\s*")

Same = Callable[[str, str], bool]


def read_options(question: str) -> tuple[str, ...]:
    """Return the texts of the options that a question lists as "(A) ..." or "A. ...", in order; empty without any.

    For grading; the rules for hints read options by ``hints.rules.answers.options_by_letter``, which is stricter.
    """
    marks = list(_QUESTION_OPTION.finditer(question))
    # The last run A, B, C ...: earlier letters belong to the question.
    starts = [index for index, mark in enumerate(marks) if mark[1] == "A"]
    if not starts:
        return ()
    run = marks[starts[-1] :]
    length = next((i for i, mark in enumerate(run) if mark[1] != chr(ord("A") + i)), len(run))
    if length < 2:
        return ()
    ends = [mark.start() for mark in run[1:length]] + [len(question)]
    # The last option ends with its line.
    texts = [question[mark.end() : end] for mark, end in zip(run, ends, strict=False)]
    return tuple(text.strip().split("\n")[0].strip().rstrip(";,") for text in texts)


def match_choice(given: str, expected: str, options: Sequence[str], same: Same) -> bool | None:
    """Return whether two plain answers choose the same option; ``None`` if this is no matter of letters.

    ``same`` compares an option's text with an answer.
    """
    letter, text = _split(expected)
    given_letter, given_text = _split(given)
    several = _letters(expected)
    if several:
        run = set(given) if _RUN.fullmatch(given) else set()
        return several == (_letters(given) or run or {given_letter})
    if letter and _letters(given):
        return False
    if letter and not text:
        text = _option(letter, options)
    if not letter and not given_letter:
        return None
    if letter and given_letter:
        if letter != given_letter:
            return False
        # "B. 40" where B is 30 chooses nothing.
        return not (given_text and text) or same(given_text, text)
    if letter:
        if not text:
            return None
        matching = [option for option in options if same(given, option)]
        return same(given, text) and len(matching) <= 1
    if given_text and not options:
        return same(given_text, expected)
    chosen = _option(given_letter, options)
    return same(chosen, expected) if chosen else None


def _split(answer: str) -> tuple[str, str]:
    letter = _LETTER.fullmatch(answer)
    if letter:
        return letter[1], ""
    labelled = _LABELLED.fullmatch(answer)
    return (labelled[1] or labelled[2], labelled[3]) if labelled else ("", "")


def _letters(answer: str) -> set[str]:
    """Return the letters of an answer such as "(A), (C)"; none if it is anything else."""
    bare = _BRACKETS.sub("", answer)
    return set(re.findall(r"\b[a-j]\b", bare)) if _LETTERS.fullmatch(bare) else set()


def _option(letter: str, options: Sequence[str]) -> str:
    index = ord(letter) - ord("a")
    return options[index] if index < len(options) else ""
