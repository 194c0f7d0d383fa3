"""Does a hint expose a decisive intermediate number?"""

from collections.abc import Iterator, Sequence

from ptdpo.hints.rules.innocent import is_innocent
from ptdpo.hints.rules.question import Question
from ptdpo.text.amounts import amounts
from ptdpo.text.arithmetic import Amount
from ptdpo.text.tokens import Token, around
from ptdpo.text.words import vocabulary

# Known to everybody: angle sums, per cent, minutes, hours, gravity. They are results only after "=" or "is".
_CONSTANTS = frozenset((0, 1, 90, 100, 180, 270, 360, 1000, 3.14, 9.8, 9.81))
_CONSTANTS_WITH = {
    7: "days", 12: "months hours", 24: "hours", 30: "° - degrees", 45: "° - degrees", 60: "° - degrees minutes seconds",
}  # fmt: skip
_STATED = vocabulary("= is equals stands at reads gives leaves get exactly shows")
_ANGLES = frozenset((90, 180, 270, 360))
_YEARS = range(1900, 2101)
_SMALL = 12


def exposed_numbers(tokens: Sequence[Token], question: Question) -> Iterator[str]:
    """Yield each number that is neither in the question nor an innocent ordinal, count, constant or label."""
    for amount in amounts(tokens):
        if amount.operations or tokens[amount.last].value is None:
            continue
        if not _is_allowed(tokens, amount, question):
            yield around(tokens, amount.first, amount.last)


def _is_allowed(tokens: Sequence[Token], amount: Amount, question: Question) -> bool:
    token = tokens[amount.first]
    before = tokens[amount.first - 1].low if amount.first else ""
    if question.states(amount.value) or (amount.percent and question.states(amount.value / 100)):
        return True
    if is_innocent(tokens, amount, question):
        return True
    after = tokens[amount.last + 1].low if amount.last + 1 < len(tokens) else ""
    if amount.value in _CONSTANTS or after in _CONSTANTS_WITH.get(int(amount.value), "").split():
        angle = amount.value in _ANGLES and before != "="
        return angle or amount.value in (0, 1) or before not in _STATED
    if not token.spelled and amount.value in _YEARS and len(token.text) == 4:
        return True
    if not token.spelled and abs(amount.value) <= 2 and not amount.unit and before not in _STATED:
        return True
    return token.spelled and _is_ordinary(tokens, amount.first, before)


def _is_ordinary(tokens: Sequence[Token], at: int, before: str) -> bool:
    """Accept "two" and fractions as ordinary words; a larger count only where it is not stated as a finding."""
    value = tokens[at].value or 0.0
    if value <= 2 or value != int(value):
        return before not in ("exactly", "only")
    return False
