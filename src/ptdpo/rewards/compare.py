"""Is an answer right? Read the kind of the expected answer first, then compare within that kind.

Nothing here hangs or runs what a model wrote: numbers are exact or of sixty digits, expressions are compared by their
values. Only mathematics that ``expressions`` cannot read (sums, integrals, limits) is left to a worker.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from ptdpo.rewards.choices import letters_of, match_choice, split_label
from ptdpo.rewards.expressions import Node, read_expression
from ptdpo.rewards.kinds import Kind, Same
from ptdpo.rewards.pairs import (
    read_date,
    read_range,
    read_ratio,
    read_time,
    same_date,
    same_range,
    same_ratio,
    same_time,
)
from ptdpo.rewards.quantities import Quantity, read_quantity, same_quantity
from ptdpo.rewards.relations import read_relation, same_relation, without_name
from ptdpo.rewards.sequences import (
    read_list,
    read_matrix,
    read_set,
    read_tuple,
    same_list,
    same_matrix,
    same_set,
    same_tuple,
)
from ptdpo.rewards.solutions import read_solutions, same_solutions
from ptdpo.rewards.values import as_real, same_function
from ptdpo.rewards.wording import literal, read_verdict, same_verdict, same_words
from ptdpo.text import MAX_ANSWER
from ptdpo.text.notation import plain

_LEAD = re.compile(
    r"(?:therefore|thus|so|hence),? (?=\S{1,12} ?=)"
    r"|(?:(?:therefore|thus|so|hence),? )?(?:the )?(?:(?:final|correct) )?(?:answer|result)s?(?: is| are|:)\s*:?\s*"
    r"|there (?:is|are) |it is |(?:about|approximately|approx\.?|around|roughly) (?=[\d.¤])|[~≈]\s*(?=\d)"
    r"|(?:in )?(?:the )?(?:year )?(?=[12]\d{3}$)",
    re.IGNORECASE,
)
# Relations in words, after a single letter.
_SPOKEN_RELATIONS = tuple(
    (re.compile(rf"^([a-zA-Z])\s+is\s+(?:{words})\s+(?=[-\d])", re.IGNORECASE), rf"\1 {sign} ")
    for words, sign in (
        ("less than or equal to|at most|no more than", "≤"),
        ("(?:greater|more) than or equal to|at least|no less than", "≥"),
        ("less than|smaller than", "<"),
        ("greater than|more than|larger than", ">"),
    )
)
_GLOSS = re.compile(r"(.+?)\s*\(\s*([^()]+?)\s*\)")
# "The total is 8", "The clock shows 10:05": what is named may be anything, unless it is said to be wrong.
_SAID = re.compile(
    r"(?:the|its|this|that) (?!(?:[a-z]+ ){0,3}(?:not|never|no|wrong|incorrect|false|other|previous|initial)\b)"
    r"(?:[a-z]+ ){1,4}(?:is|are|was|were|equals|shows|reads|says)(?: equal to| exactly)? (.+)",
    re.IGNORECASE,
)
_SYMBOLIC = re.compile(r"\\(?:sum|i+nt|oint|prod|lim|[dt]?binom|lfloor|lceil)(?![a-zA-Z])|[⟪]")


class UndecidedError(Exception):
    """The verdict needs a worker."""


def _read_quantity(text: str) -> Quantity | None:
    return None if letters_of(text) else read_quantity(text)


def _same_quantity(given: str, expected: Quantity, same: Same) -> bool:
    found = read_quantity(given)
    return found is not None and same_quantity(found, expected)


def _same_expression(given: str, expected: Node, same: Same) -> bool:
    found = read_expression(given)
    return found is not None and found.symbols() == expected.symbols() and same_function(found, expected)


# In the order in which they are tried on the expected answer.
KINDS = (
    Kind("matrix", read_matrix, same_matrix),
    Kind("yes or no", read_verdict, same_verdict),
    Kind("set", read_set, same_set),
    Kind("interval", read_solutions, same_solutions),
    Kind("point", read_tuple, same_tuple),
    Kind("time", read_time, same_time),
    Kind("date", read_date, same_date),
    Kind("quantity", _read_quantity, _same_quantity),
    Kind("ratio", read_ratio, same_ratio),
    Kind("range", read_range, same_range),
    Kind("list", read_list, same_list),
    Kind("relation", read_relation, same_relation),
    Kind("expression", read_expression, _same_expression),
)
WORDS = "words"


def match(given: str, expected: str, options: Sequence[str] = ()) -> bool:
    """Return whether an answer is the expected one; overlong and empty ones never are.

    Raises:
        UndecidedError: if that is for symbolic mathematics to say.
    """
    if max(len(given), len(expected)) > MAX_ANSWER:
        return False
    first, second = cleaned(given), cleaned(expected)
    if not first or not second:
        return False
    texts = tuple(cleaned(option) for option in options)
    chosen = match_choice(first, second, texts, _same_text)
    return same_answer(first, second) if chosen is None else chosen


def names_another(letter: str, rest: str, options: Sequence[str]) -> bool:
    """Return whether the sentence after a letter gives the text of another option: "B. The time is 3:00"."""
    own = ord(letter.upper()) - ord("A") if len(letter) == 1 else len(options)
    if not rest or len(rest) > MAX_ANSWER or not 0 <= own < len(options):
        return False
    said = _SAID.fullmatch(cleaned(rest))
    values = [cleaned(rest), *([said[1]] if said else [])]
    fitting = {number for number, option in enumerate(options) for value in values if _same_text(value, option)}
    return bool(fitting) and own not in fitting


@lru_cache(maxsize=4096)
def cleaned(answer: str) -> str:
    """Return an answer in plain spelling, without the sentence around it."""
    text = re.sub(r"^(?:minus|negative) (?=[\d.])", "-", plain(answer))
    for pattern, sign in _SPOKEN_RELATIONS:
        text = pattern.sub(sign, text)
    rest = _LEAD.sub("", text, count=1) if _LEAD.match(text) else text
    rest = re.sub(r"(?<=\d)\s*\(?\b(?:approx\.?|approximately|rounded)\)?$", "", rest)
    return plain(rest) if rest and rest != text else text


def _same_text(given: str, expected: str) -> bool:
    """Compare two texts of which one may have stood behind a letter: "(C) Around 31%"."""
    first, second = (re.sub(r"(?<=\w)\?$", "", text) if text.count(" ") > 2 else text for text in (given, expected))
    return same_answer(cleaned(first), cleaned(second))


def same_answer(given: str, expected: str) -> bool:
    """Return whether two answers in plain spelling are the same, letters of options apart."""
    if literal(given) == literal(expected):
        return True
    kind, meaning = _kind_of(expected)
    if kind is not None:
        candidates = [given]
        if kind.name not in ("list", "relation", "interval", "set"):
            candidates.append(without_name(given))
        gloss = _GLOSS.fullmatch(given) if kind.name == "quantity" else None
        if gloss and same_answer(gloss[2], gloss[1]):
            # "5 (five)" says it twice.
            candidates.append(gloss[1])
        said = _SAID.fullmatch(given) if kind.name in ("quantity", "time", "range", "ratio") else None
        if said:
            candidates.append(said[1])
        exact, sign, rounded = given.partition("≈")
        if sign and kind.same(exact.strip(), meaning, same_answer) and _rounds_to(exact.strip(), rounded.strip()):
            return True
        if kind.name == "interval" and _same_inequality(given, expected):
            return True
        if any(kind.same(text, meaning, same_answer) for text in candidates):
            return True
    return same_words(given, expected, same_answer) or _ask_a_worker(given, expected, kind)


def _same_inequality(given: str, expected: str) -> bool:
    """Compare "-x > -1" with "x < 1", which is read as an interval first."""
    relation = read_relation(expected)
    return relation is not None and read_relation(given) is not None and same_relation(given, relation, same_answer)


def _rounds_to(exact: str, rounded: str) -> bool:
    first, second = read_quantity(exact), read_quantity(rounded)
    if first is None or second is None:
        return False
    a, b = as_real(first.number), as_real(second.number)
    return bool(abs(a - b) < abs(b) / 100)


def kind_of(expected: str, options: Sequence[str] = ()) -> str:
    """Return the name of the kind that an expected answer is read as."""
    text = cleaned(expected)
    if letters_of(text):
        return "letters"
    letter, _ = split_label(text, bool(options))
    if letter or options:
        return "choice"
    kind, _ = _kind_of(text)
    return WORDS if kind is None else kind.name


@lru_cache(maxsize=4096)
def _kind_of(expected: str) -> tuple[Kind | None, object]:
    for kind in KINDS:
        meaning = kind.read(expected)
        if meaning is not None:
            return kind, meaning
    return None, None


def _ask_a_worker(given: str, expected: str, kind: Kind | None) -> bool:
    """Leave what looks like mathematics on both sides, and could not be read here, to a worker."""
    if kind is not None and kind.name not in ("expression", "relation", "quantity"):
        return False
    sides = [(is_symbolic(text), read_expression(text) is not None) for text in (given, expected)]
    if any(symbolic for symbolic, _ in sides) and all(any(side) for side in sides):
        raise UndecidedError
    return False


def is_symbolic(text: str) -> bool:
    """Return whether a plain answer is for math-verify to read: sums, integrals, limits, binomials, determinants."""
    return _SYMBOLIC.search(text) is not None and read_expression(text) is None
