"""Is a hint a full solution: a chain of equations, stepwise results, or simply too long?"""

from collections.abc import Iterator, Sequence

from ptdpo.records import Hint
from ptdpo.text.tokens import MAX_CHARACTERS, Token, around, sentences
from ptdpo.text.units import units_in_text
from ptdpo.text.words import vocabulary

# The reference asks for concise instructions; its own limit is not published, this one is ours.
MAX_WORDS = 250
_MAX_EQUATIONS, _MAX_RESULTS = 1, 2
_RESULT = vocabulary(
    """
    so total makes make that now thus hence therefore gives becomes leaves = then
    """
)
_FINAL = ("boxed", "final answer is", "answer is therefore", "the solution is", "final answer :")


def solution_signs(hint: Hint, tokens: Sequence[Token]) -> Iterator[str]:
    """Yield why a hint counts as a full solution."""
    length = len(hint.look) + len(hint.reason)
    words = sum(token.kind != "sign" for token in tokens)
    if length > MAX_CHARACTERS or words > MAX_WORDS:
        yield f"{words} words, at most {MAX_WORDS} are allowed"
    text = " ".join(token.low for token in tokens)
    yield from (f'it says "{phrase}"' for phrase in _FINAL if phrase in text)
    equations = _solved(tokens)
    if len(equations) > _MAX_EQUATIONS:
        yield f"{len(equations)} worked equations: {around(tokens, equations[0], equations[-1])}"
    results = _stepwise(tokens)
    if results > _MAX_RESULTS:
        yield f"{results} stepwise results"


def _solved(tokens: Sequence[Token]) -> list[int]:
    """Return the positions of equals signs with a plain number on the right: "2x = 10", not "F = ma"."""
    return [at for at, token in enumerate(tokens) if token.low == "=" and _ends_in_number(tokens, at + 1)]


def _ends_in_number(tokens: Sequence[Token], at: int) -> bool:
    seen = False
    for token in tokens[at : at + 12]:
        other_word = token.kind == "word" and token.low not in units_in_text()
        if other_word or token.low in (",", ".", ";", "=", ":", "?", "so"):
            return seen and (token.kind != "word" or len(token.text) > 1)
        if token.kind == "label":
            return False
        seen = seen or token.value is not None
    return seen


def _stepwise(tokens: Sequence[Token]) -> int:
    """Count the clauses that announce a result and hold a number right after the announcement."""
    count = 0
    for sentence in sentences(tokens):
        announced = False
        for token in sentence:
            announced = token.low in _RESULT or (announced and token.low not in (",", ";"))
            if announced and token.value is not None:
                count, announced = count + 1, False
    return count
