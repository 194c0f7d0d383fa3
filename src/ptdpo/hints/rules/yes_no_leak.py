"""Does a hint say yes or no, or state or deny what the question asks?"""

from collections.abc import Iterator, Sequence

from ptdpo.hints.rules.answers import Answer
from ptdpo.hints.rules.question import Question
from ptdpo.text.tokens import Token, around, sentences
from ptdpo.text.words import stem, vocabulary

_HEDGES = vocabulary(
    """
    whether if check ask compare decide test does do is are was did would could should say see verify or has have
    judge
    """
)
_YES = vocabulary("yes true affirm affirmative yeah yep yup aye")
_NO = vocabulary("no false deny negative nope nah nay")
# What a question may be about as a whole, and what it then does.
_CLAIMS = vocabulary("claim statement assertion proposition conclusion sentence equation inequality")
_HOLDS, _FAILS = vocabulary("holds hold stands"), vocabulary("fails breaks")
_DENIALS = vocabulary("not no never doesn't isn't cannot")
# In front of the pronoun of a statement.
_ADVERBS = vocabulary("indeed actually clearly so thus therefore hence then here really certainly")
_PRONOUNS = vocabulary("he she it they")
_BEFORE_YES_NO = frozenset(
    [
        "is",
        "answer",
        "say",
        "reply",
        "respond",
        "so",
        "therefore",
        "hence",
        "thus",
        ":",
        "be",
        "must",
        "conclude",
        "statement",
        "claim",
        '"',
        "'",
        "you",
    ]
)
# What leaves a verdict open, and what does not lead to one.
_OPEN = vocabulary("whether if ? either")
_NOT_LEADING = vocabulary("or and nor than versus vs a an the any some of if when not there")
# States of things: "which of them are true".
_STATES = vocabulary("are is were was be being remains remain holds hold")
_EMPTY = vocabulary(
    """
    is are was were does do did a an the there any in image picture not this that it more than of on at present
    contain contains its to number
    """
)


def yes_no_leaks(tokens: Sequence[Token], answer: Answer, question: Question) -> Iterator[str]:
    """Yield where a yes or no is given away: said outright, or by stating or denying what the question asks."""
    said = _YES if answer.words == ("ye",) or answer.text.lower() in _YES else _NO
    for at, token in enumerate(tokens):
        if token.low in said and _is_reply(tokens, at):
            yield around(tokens, at, at)
    asked = _content(question.tokens)
    for sentence in sentences(tokens):
        if not _asserts(sentence):
            continue
        if (asked and _takes_up(asked, sentence)) or _is_judged(sentence, holds=said is _YES):
            yield around(sentence, 0, len(sentence))


def _is_judged(sentence: Sequence[Token], *, holds: bool) -> bool:
    """Return whether a sentence says that a claim holds, or that it does not: "the statement does not hold"."""
    words = {t.low for t in sentence}
    fails = bool(words & _FAILS) or (bool(words & _HOLDS) and bool(words & _DENIALS))
    says = fails if not holds else bool(words & _HOLDS) and not fails
    return says and bool(words & _CLAIMS) and not words & _OPEN


def _is_reply(tokens: Sequence[Token], at: int) -> bool:
    before = tokens[at - 1].low if at else ""
    alone = (
        at + 1 == len(tokens)
        or tokens[at + 1].low in (".", "!", ";", ",", '"', "'", ")")
        or (tokens[at + 1].sentence != tokens[at].sentence)
    )
    if tokens[at].low in ("true", "false", "affirm", "deny", "affirmative", "negative"):
        if alone and [t.low for t in tokens[max(0, at - 2) : at]] == ["in", "the"]:
            return True
        if any(t.low in ("whether", "if") for t in tokens[:at] if t.sentence == tokens[at].sentence):
            return False
        if alone and at and before not in _STATES and _is_said(tokens, at):
            return True
        return before in ("is", "answer", "so", "statement", "claim", "must", "be") or (
            tokens[at].low in ("affirm", "deny")
        )
    starts = at == 0 or tokens[at - 1].sentence != tokens[at].sentence
    if alone and not starts and _is_said(tokens, at):
        return True
    if any(t.low == "whether" for t in tokens[max(0, at - 12) : at] if t.sentence == tokens[at].sentence):
        return False
    return alone and (before in _BEFORE_YES_NO or starts or before in (",", ";"))


def _is_said(tokens: Sequence[Token], at: int) -> bool:
    """Return whether a lone verdict is what a verb leads to: "choose no", "you find yes", "it comes out false".

    Not where it is one of two ("yes or no", "between yes and no"), a case ("if no,"), or a question.
    """
    here = [(n, t.low) for n, t in enumerate(tokens) if t.sentence == tokens[at].sentence]
    words = {low for _, low in here}
    both = bool(words & _YES) and bool(words & _NO)
    before = tokens[at - 1]
    # "A yes" is one; "a true ..." is something else.
    leads = before.low not in _NOT_LEADING or (before.low == "a" and tokens[at].low in ("yes", "no"))
    return not both and not words & _OPEN and before.kind == "word" and leads


def _content(tokens: Sequence[Token]) -> set[str]:
    return {stem(t.low) for t in tokens if t.kind != "sign" and t.low not in _EMPTY}


def _takes_up(asked: set[str], sentence: Sequence[Token]) -> bool:
    """Return whether a sentence holds all that was asked, or all but the subject, for which a pronoun stands."""
    missing = asked - _content(sentence)
    first = next((t.low for t in sentence if t.kind == "word" and t.low not in _ADVERBS), "")
    return not missing or (len(missing) == 1 < len(asked) - 1 and first in _PRONOUNS)


def _asserts(sentence: Sequence[Token]) -> bool:
    """Return whether a sentence states something: no question, no whether, no command to compare."""
    words = {t.low for t in sentence}
    starts = sentence[0].low if sentence else ""
    return not words & {"?", "whether", "if", "or", "check", "ask", "test", "verify"} and starts not in _HEDGES
