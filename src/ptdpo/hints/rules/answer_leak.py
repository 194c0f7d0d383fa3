"""Does a hint hold the final answer? Chooses the rules by the kind of answer."""

from collections.abc import Iterator, Sequence

from ptdpo.hints.rules.answers import read_answer
from ptdpo.hints.rules.cjk_leak import cjk_leaks
from ptdpo.hints.rules.letter_leak import letter_leaks
from ptdpo.hints.rules.number_leak import number_leaks
from ptdpo.hints.rules.question import Question
from ptdpo.hints.rules.word_leak import word_leaks
from ptdpo.hints.rules.yes_no_leak import yes_no_leaks
from ptdpo.records import Hint, Problem
from ptdpo.text.tokens import Token, around, plain_signs, tokenise
from ptdpo.text.words import stem, vocabulary

_DIRECTIONS = vocabulary("left right up down upward downward north south east west")
_MOTION = frozenset(
    stem(w)
    for w in vocabulary(
        """
    move slide go turn flow accelerate roll push pull point deflect answer be is
    """
    )
)
_SYMBOLS = frozenset("=^\\+*/|<>")
_SHORTEST_FORMULA = 4


def answer_leaks(problem: Problem, hint: Hint, tokens: Sequence[Token], question: Question) -> Iterator[str]:
    """Yield each place where the hint gives the answer away, as a short excerpt."""
    answer = read_answer(problem)
    asked = Question.read(tokenise(answer.stem)) if answer.options else question
    yield from cjk_leaks(answer, hint, asked)
    if answer.letter:
        yield from letter_leaks(tokens, answer.letter, answer.options, answer.options)
    if answer.text.lower() in ("yes", "no", "true", "false"):
        yield from yes_no_leaks(tokens, answer, asked)
    elif len(answer.text) == 1 and answer.text.isalpha():
        yield from letter_leaks(tokens, answer.text.upper()[0], answer.options.values(), ())
    elif _SYMBOLS & set(answer.text) and not answer.numbers:
        yield from _formula_leaks(answer.text, hint)
    elif answer.numbers:
        yield from number_leaks(tokens, answer, asked)
    elif set(answer.words) <= _DIRECTIONS:
        yield from _direction_leaks(tokens, answer.words)
    else:
        yield from word_leaks(tokens, answer, asked)


def _direction_leaks(tokens: Sequence[Token], words: Sequence[str]) -> Iterator[str]:
    """Find "moves to the left"; the same word also says where to look, so it needs a verb of motion."""
    for at, token in enumerate(tokens):
        near = {stem(t.low) for t in tokens[max(0, at - 5) : at] if t.sentence == token.sentence}
        if token.low in words and near & _MOTION:
            yield around(tokens, at, at)


def _formula_leaks(answer: str, hint: Hint) -> Iterator[str]:
    """Compare formulas as text, without spaces."""
    target = _squeezed(answer)
    if len(target) >= _SHORTEST_FORMULA and target in _squeezed(f"{hint.look} {hint.reason}"):
        yield answer


def _squeezed(text: str) -> str:
    return "".join(plain_signs(text).lower().split())
