"""Does a hint single out the letter that is the answer: of an option, a curve, a point?"""

from collections.abc import Collection, Iterator, Sequence

from ptdpo.text.number_words import ORDINALS
from ptdpo.text.tokens import Token, around, sentences
from ptdpo.text.words import vocabulary

_RULED_OUT = vocabulary(
    """
    eliminate eliminates discard discarded exclude excluded reject rejected wrong incorrect strike cross ruled rule
    out impossible false shorter not
    """
)
_GEOMETRIC = vocabulary(
    """
    point angle vertex corner side segment line triangle circle arc node terminal apex ray at centre center and or
    """
)
_NAMED_BEFORE = vocabulary("option choice letter answer")
_SAID_BEFORE = _NAMED_BEFORE | vocabulary("is be choose pick select mark take")


def letter_leaks(
    tokens: Sequence[Token], letter: str, others: Collection[str], options: Collection[str]
) -> Iterator[str]:
    """Yield where a letter that is the answer is singled out: an option's, or that of a curve or a point.

    Args:
        tokens: the hint.
        letter: the answer.
        others: letters it may stand beside; empty: any capital letter.
        options: letters of the question's options, empty if the letter is no option's.
    """
    for sentence in sentences(tokens):
        named = {t.text for at, t in enumerate(sentence) if _is_candidate(t.text, others) and _is_letter(sentence, at)}
        yield from _singled_out(sentence, letter, named)
        if len(options) > 2 and named == set(options) - {letter} and {t.low for t in sentence} & _RULED_OUT:
            yield around(sentence, 0, len(sentence))
    yield from _by_position(tokens, letter, len(options))


def _is_candidate(text: str, others: Collection[str]) -> bool:
    return text in others if others else len(text) == 1 and text.isupper()


def _singled_out(sentence: Sequence[Token], letter: str, named: set[str]) -> Iterator[str]:
    for at, token in enumerate(sentence):
        before = sentence[at - 1].low if at else ""
        bracketed = before == "(" and at > 1
        leading = sentence[at - 2].low if bracketed else before
        if token.text == letter.lower() and leading in (_SAID_BEFORE if bracketed else _NAMED_BEFORE):
            yield around(sentence, at, at)
        if token.text != letter or not _is_letter(sentence, at):
            continue
        if before in _GEOMETRIC and before not in ("line", "and", "or"):
            continue
        if named == {letter} or before in ("option", "choice", "answer", "pick", "choose", "select"):
            yield around(sentence, at, at)


def _is_letter(sentence: Sequence[Token], at: int) -> bool:
    """Tell the letter A from the article, and I from the pronoun."""
    if sentence[at].text not in ("A", "I"):
        return True
    following = sentence[at + 1] if at + 1 < len(sentence) else None
    return at > 0 or following is None or following.kind != "word"


def _by_position(tokens: Sequence[Token], letter: str, options: int) -> Iterator[str]:
    """Find "the third choice is right"."""
    place = ord(letter) - ord("A")
    names = {ORDINALS[place]} if options and 0 <= place < len(ORDINALS) else set()
    names |= {"last"} if place == options - 1 else set()
    for at, token in enumerate(tokens[:-1]):
        if token.low in names and tokens[at + 1].low in ("choice", "option", "answer", "alternative"):
            yield around(tokens, at, at + 1)
