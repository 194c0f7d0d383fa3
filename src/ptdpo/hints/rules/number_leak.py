"""Does a hint hold a numeric answer, in whatever form?"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ptdpo.hints.rules.answers import Answer
from ptdpo.hints.rules.innocent import is_innocent
from ptdpo.hints.rules.question import Question
from ptdpo.text.amounts import amounts
from ptdpo.text.arithmetic import Amount
from ptdpo.text.tokens import Token, around, sentences
from ptdpo.text.units import units_in_text
from ptdpo.text.words import vocabulary

_EXACT, _ROUNDED = 1e-9, 5e-3
# A larger number that happens to be the answer is never an innocent count or label.
_SMALL = 12
# Words after which a number that the question states is no longer a quotation but a result.
_RESULT = vocabulary(
    """
    is are = equals equal gives gives gets get makes make reads answer total sum result value leaves comes amounts
    exactly reaches reach obtain obtains find finds therefore so to at yields
    """
)
_TIMES = {"doubled": 2.0, "tripled": 3.0, "trebled": 3.0, "quadrupled": 4.0, "doubles": 2.0, "triples": 3.0}
_BETWEEN = vocabulary("to and or as x y")
_PAST = {"quarter": 15, "half": 30}


def number_leaks(tokens: Sequence[Token], answer: Answer, question: Question) -> Iterator[str]:
    """Yield the place where a numeric answer is given away."""
    if len(answer.numbers) != 1:
        yield from _sequence_leaks(tokens, answer)
        return
    expected = answer.numbers[0]
    scale = _scale(question)
    for amount in amounts(tokens):
        scaled = replace(amount, value=amount.value / scale)
        if (same_amount(amount, expected) or same_amount(scaled, expected)) and not _is_harmless(
            tokens, amount, expected, question
        ):
            yield around(tokens, amount.first, amount.last)
    yield from _multiple_leaks(tokens, expected, question)
    yield from _sum_leaks(tokens, expected, question)


def _scale(question: Question) -> float:
    """Return what the question counts in: 1000 for "in thousands"."""
    words = {t.low for t in question.tokens}
    return 1e3 if "thousands" in words else 1e6 if "millions" in words else 1.0


def same_amount(found: Amount, expected: Amount) -> bool:
    """Return whether two amounts are equal: as they stand, as percentage, in another unit, or rounded."""
    candidates = {found.value}
    if found.percent != expected.percent:
        candidates.add(found.value / 100 if found.percent else found.value * 100)
    written, asked = units_in_text().get(found.unit), units_in_text().get(expected.unit)
    if written is not None and asked is not None and written.dimension == asked.dimension:
        candidates = {found.value * float(written.size / asked.size)}
    return any(_close(value, expected.value) for value in candidates)


def _close(value: float, expected: float) -> bool:
    difference = abs(value - expected)
    if difference <= _EXACT * max(1.0, abs(expected)):
        return True
    whole = value == int(value) or expected == round(expected, 4)
    return not whole and difference <= _ROUNDED * abs(expected)


def _is_harmless(tokens: Sequence[Token], amount: Amount, expected: Amount, question: Question) -> bool:
    if amount.operations and not _is_plain_fraction(tokens, amount):
        return False
    before = tokens[amount.first - 1].low if amount.first else ""
    if question.states(amount.value):
        return before not in _RESULT
    return amount.value <= _SMALL and is_innocent(tokens, amount, question)


def _is_plain_fraction(tokens: Sequence[Token], amount: Amount) -> bool:
    """Recognise 1/2 as a coefficient: "1/2 base times height" is a formula, "take 1/2" is not."""
    return amount.operations == 1 and amount.last - amount.first == 2 and tokens[amount.first + 1].low == "/"


def _sequence_leaks(tokens: Sequence[Token], answer: Answer) -> Iterator[str]:
    """Find the numbers of a ratio, a point or a clock time one after the other, with only joints between them."""
    run: list[Amount] = []
    for amount in amounts(tokens):
        if run and amount.first <= run[-1].last:
            continue
        apart = tokens[run[-1].last + 1 : amount.first] if run else []
        joined = all(t.kind == "sign" or t.low in _BETWEEN for t in apart)
        run = [*run, amount][-len(answer.numbers) :] if joined else [amount]
        if len(run) == len(answer.numbers) and all(map(same_amount, run, answer.numbers)):
            yield around(tokens, run[0].first, run[-1].last)
    if ":" in answer.text and len(answer.numbers) == 2:
        yield from _spoken_times(tokens, answer)


def _spoken_times(tokens: Sequence[Token], answer: Answer) -> Iterator[str]:
    """Find "twenty to five" and "quarter past one"."""
    hour, minute = (int(amount.value) for amount in answer.numbers)
    for at in range(1, len(tokens) - 1):
        after = tokens[at + 1].value
        amount = _PAST.get(tokens[at - 1].low, tokens[at - 1].value)
        if tokens[at].low in ("to", "past") and amount is not None and after is not None:
            said = (after, amount) if tokens[at].low == "past" else ((after - 2) % 12 + 1, 60 - amount)
            if said == (hour, minute):
                yield around(tokens, at - 1, at + 1)


def _multiple_leaks(tokens: Sequence[Token], expected: Amount, question: Question) -> Iterator[str]:
    """Find "tripled" where a factor is asked for."""
    if {t.low for t in question.tokens} & {"factor", "times", "multiple"}:
        for at, token in enumerate(tokens):
            if _TIMES.get(token.low) == expected.value:
                yield around(tokens, at, at)


def _sum_leaks(tokens: Sequence[Token], expected: Amount, question: Question) -> Iterator[str]:
    """Find counts that one sentence only leaves to be added: 4 on the left and 3 on the right."""
    start = 0
    for sentence in sentences(tokens):
        found = [a for a in amounts(sentence) if not a.operations and _is_part(sentence, a, question)]
        total = sum(a.value for a in found)
        if 2 <= len(found) <= 6 and _close(total, expected.value):
            yield around(tokens, start + found[0].first, start + found[-1].last)
        start += len(sentence)


def _is_part(sentence: Sequence[Token], amount: Amount, question: Question) -> bool:
    if sentence[amount.first].low == "one":
        after = sentence[amount.first + 1].low if amount.first + 1 < len(sentence) else ""
        return after in ("on", "in", "near", "by", "at", "under", "behind")
    return not question.states(amount.value) and not is_innocent(sentence, amount, question)
