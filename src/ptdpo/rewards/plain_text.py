"""Are two answers the same text or the same number?

Nothing here evaluates what a model wrote: text is compared after normalisation, and numbers as bounded decimals
or fractions of them. Every step is linear in the length of the answer, so grading cannot hang.
"""

import re
from fractions import Fraction

# Longer "answers" are runaway generations. The bound also caps the cost of exact arithmetic.
MAX_ANSWER = 256
_MAX_DIGITS = 40

_WRAPPER = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d{1,2})?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_CHOICE = re.compile(r"\(?([a-z])\)?[.:]?")


def answers_match(given: str, expected: str) -> bool:
    """Return whether two answers are the same text or the same number; overlong answers never match."""
    if len(given) > MAX_ANSWER or len(expected) > MAX_ANSWER:
        return False
    given, expected = normalise(given), normalise(expected)
    if not given or not expected:
        return False
    if given == expected:
        return True
    first, second = as_number(given), as_number(expected)
    if first is not None and second is not None:
        return first == second
    first_choice, second_choice = _CHOICE.fullmatch(given), _CHOICE.fullmatch(expected)
    return bool(first_choice and second_choice and first_choice[1] == second_choice[1])


def answer_key(answer: str) -> Fraction | str | None:
    """Return what answers that match have in common, for counting them; ``None`` if nothing matches the answer."""
    if len(answer) > MAX_ANSWER:
        return None
    text = normalise(answer)
    number = as_number(text)
    if number is not None:
        return number
    choice = _CHOICE.fullmatch(text)
    return choice[1] if choice else text or None


def normalise(answer: str) -> str:
    """Return the answer without case, spaces, dollar signs, LaTeX wrappers and a closing full stop."""
    text = answer.strip().removeprefix("\\boxed").strip()
    text = _WRAPPER.sub(r"\1", text)
    for noise in (
        "\\left",
        "\\right",
        "\\!",
        "\\,",
        "\\;",
        "\\ ",
        "$",
        "\\%",
        "%",
        "^\\circ",
        "^{\\circ}",
        "°",
    ):
        text = text.replace(noise, "%" if "%" in noise else "")
    text = "".join(text.split()).lower()
    while len(text) > 1 and text[0] == "{" and text[-1] == "}":
        text = text[1:-1]
    return text.rstrip(".") if not text.endswith("..") else text


def as_number(text: str) -> Fraction | None:
    """Return a normalised answer as an exact number, or ``None``.

    Understood: integers, decimals, powers of ten up to e99, thousands separators, a/b, \\frac{a}{b}, percent.
    """
    if text.endswith("%"):
        value = as_number(text[:-1])
        return None if value is None else value / 100
    latex = _FRACTION.fullmatch(text)
    if latex:
        return _ratio(latex[1] + latex[2], latex[3])
    top, slash, bottom = text.partition("/")
    return _ratio(top, bottom) if slash else _decimal(text)


def _ratio(top: str, bottom: str) -> Fraction | None:
    numerator, denominator = _decimal(top), _decimal(bottom)
    return None if numerator is None or not denominator else numerator / denominator


def _decimal(text: str) -> Fraction | None:
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    if not text.isascii() or len(text) > _MAX_DIGITS or not _NUMBER.fullmatch(text):
        return None
    return Fraction(text)
