"""Does a hint hold an answer in words, as yes or no, or as an option of a choice?"""

import re
from collections.abc import Collection, Iterator, Sequence

from ptdpo.hints.rules.answers import Answer
from ptdpo.hints.rules.innocent import Question
from ptdpo.hints.rules.tokens import Token, around, sentences, stem
from ptdpo.hints.rules.vocabulary import vocabulary

# Words that state a conclusion; after one of them even a word of the question gives the answer away.
_CONCLUDE = vocabulary(
    """
    answer pick choose mark select therefore hence thus reply say respond conclude correct is it's choice option
    close name
    """
)
_RIDDLES = (
    "starts with the letter",
    "begins with the letter",
    "rhymes with",
    "anagram of",
    "is spelled",
    "first letter is",
)
_RULED_OUT = vocabulary(
    """
    eliminate eliminates discard discarded exclude excluded reject rejected wrong incorrect strike cross ruled rule
    out impossible false shorter
    """
)
_GEOMETRIC = vocabulary(
    """
    point angle vertex corner side segment line triangle circle arc node terminal apex ray at centre center and or
    """
)
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_LISTED = vocabulary("or versus vs nor")
_NOT_NAMES = vocabulary("the a an of in on at to and with its it is are this that")
_HEDGES = vocabulary(
    """
    whether if check ask compare decide test does do is are was did would could should say see verify or has have
    judge
    """
)
_YES, _NO = vocabulary("yes true affirm affirmative"), vocabulary("no false deny negative")
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


def yes_no_leaks(tokens: Sequence[Token], answer: Answer, question: Question) -> Iterator[str]:
    """Yield where a yes or no is given away: said outright, or by stating or denying what the question asks."""
    said = _YES if answer.words == ("ye",) or answer.text.lower() in _YES else _NO
    for at, token in enumerate(tokens):
        if token.low in said and _is_reply(tokens, at):
            yield around(tokens, at, at)
    asked = _content(question.tokens)
    for sentence in sentences(tokens):
        if asked and _takes_up(asked, sentence) and _asserts(sentence):
            yield around(sentence, 0, len(sentence))


def _is_reply(tokens: Sequence[Token], at: int) -> bool:
    before = tokens[at - 1].low if at else ""
    alone = (
        at + 1 == len(tokens)
        or tokens[at + 1].low in (".", "!", ";", ",", '"', "'", ")")
        or (tokens[at + 1].sentence != tokens[at].sentence)
    )
    if tokens[at].low in ("true", "false", "affirm", "deny", "affirmative", "negative"):
        return before in ("is", "answer", "so", "statement", "claim", "must", "be") or (
            tokens[at].low in ("affirm", "deny")
        )
    starts = at == 0 or tokens[at - 1].sentence != tokens[at].sentence
    return alone and (before in _BEFORE_YES_NO or starts or before in (",", ";"))


def _content(tokens: Sequence[Token]) -> set[str]:
    return {stem(t.low) for t in tokens if t.kind != "sign" and t.low not in _EMPTY}


_EMPTY = vocabulary(
    """
    is are was were does do did a an the there any in image picture not this that it more than of on at present
    contain contains its to number
    """
)


def _takes_up(asked: set[str], sentence: Sequence[Token]) -> bool:
    """Return whether a sentence holds all that was asked, or all but the subject, for which a pronoun stands."""
    missing = asked - _content(sentence)
    return not missing or (len(missing) == 1 < len(asked) - 1 and sentence[0].low in ("he", "she", "it", "they"))


def _asserts(sentence: Sequence[Token]) -> bool:
    """Return whether a sentence states something: no question, no whether, no command to compare."""
    words = {t.low for t in sentence}
    starts = sentence[0].low if sentence else ""
    return not words & {"?", "whether", "if", "or", "check", "ask", "test", "verify"} and starts not in _HEDGES


def word_leaks(tokens: Sequence[Token], answer: Answer, question: Question) -> Iterator[str]:
    """Yield where an answer in words is named, described letter by letter, or hinted at by a riddle."""
    known = {stem(t.low) for t in question.tokens}
    quoted = all(word in known for word in answer.words)
    others = [_words(text) for letter, text in answer.options.items() if letter != answer.letter]
    for first, last in _places(tokens, answer.words):
        if _is_offered(tokens, first, last, others) and not _is_concluded(tokens, first):
            continue
        if quoted and not _is_concluded(tokens, first):
            continue
        yield around(tokens, first, last)
    telling = [word for word in answer.words if word not in known]
    if 0 < len(telling) < len(answer.words) and not telling[-1].isdigit():
        yield from (around(tokens, *at) for at in _places(tokens, telling) if _is_concluded(tokens, at[0]))
    yield from _name_leaks(tokens, answer, known)
    yield from _ordinal_leaks(tokens, answer.words)
    yield from _riddles(tokens, answer)


def _words(text: str) -> tuple[str, ...]:
    return tuple(stem(w) for w in re.findall(r"\w+", text.lower()) if w not in ("a", "an", "the", "to"))


def _places(tokens: Sequence[Token], words: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the spans in which the words follow each other, articles and signs left out."""
    kept = [
        (at, stem(t.low)) for at, t in enumerate(tokens) if t.kind != "sign" and t.low not in ("a", "an", "the", "to")
    ]
    for start in range(len(kept) - len(words) + 1) if words else ():
        if all(_same_word(kept[start + n][1], word) for n, word in enumerate(words)):
            first, last = kept[start][0], kept[start + len(words) - 1][0]
            if tokens[first].sentence == tokens[last].sentence:
                yield first, last


def _same_word(found: str, word: str) -> bool:
    return found == word or (len(word) >= 4 and found.startswith(word) and len(found) - len(word) <= 2)


def _is_offered(tokens: Sequence[Token], first: int, last: int, others: Sequence[Sequence[str]]) -> bool:
    """Return whether the words stand among alternatives: next to an "or", or with another option."""
    near = {t.low for t in tokens[max(0, first - 2) : first] + list(tokens[last + 1 : last + 3])}
    if near & _LISTED:
        return True
    sentence = [t for t in tokens if t.sentence == tokens[first].sentence]
    if any(t.low == "compare" for t in sentence):
        return True
    return any(next(_places(sentence, other), None) for other in others) or _has_sibling(
        sentence, tokens[first : last + 1]
    )


def _has_sibling(sentence: Sequence[Token], span: Sequence[Token]) -> bool:
    """Return whether the sentence also names another of a numbered kind: S1 beside S3, bulb 1 beside bulb 3."""
    if not any(c.isdigit() for c in span[-1].text):
        return False
    shape = [re.sub(r"\d", "0", t.low) for t in span]
    seen = {
        tuple(t.low for t in sentence[at : at + len(span)])
        for at in range(len(sentence) - len(span) + 1)
        if [re.sub(r"\d", "0", t.low) for t in sentence[at : at + len(span)]] == shape
    }
    return len(seen) > 1


def _is_concluded(tokens: Sequence[Token], first: int) -> bool:
    near = [t.low for t in tokens[max(0, first - 3) : first] if t.sentence == tokens[first].sentence]
    return bool(set(near) & _CONCLUDE)


def _name_leaks(tokens: Sequence[Token], answer: Answer, known: set[str]) -> Iterator[str]:
    """Find one part of a name: Lopez for Maria Lopez."""
    parts = re.findall(r"\b[A-Z][a-z]{3,}", answer.text) if len(answer.words) > 1 and answer.text.istitle() else []
    names = {part.lower() for part in parts} - known
    for at, token in enumerate(tokens):
        if token.low in names and token.text[0].isupper():
            yield around(tokens, at, at)


def _ordinal_leaks(tokens: Sequence[Token], words: Sequence[str]) -> Iterator[str]:
    """Find "the third bulb" for bulb 3."""
    if len(words) == 2 and words[1].isdecimal() and 0 < int(words[1][:3]) <= len(_ORDINALS):
        for at, token in enumerate(tokens[:-1]):
            if token.low == _ORDINALS[int(words[1]) - 1] and stem(tokens[at + 1].low) == words[0]:
                yield around(tokens, at, at + 1)


def _riddles(tokens: Sequence[Token], answer: Answer) -> Iterator[str]:
    text = " ".join(t.low for t in tokens)
    yield from (cue for cue in _RIDDLES if cue in text)
    spelled = "".join(t.low for t in tokens if len(t.text) == 1 and t.text.isalpha())
    target = "".join(c for c in answer.text.lower() if c.isalpha())
    if len(target) >= 3 and target in spelled:
        yield f"{answer.text} letter by letter"


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
        if token.text == letter.lower() and before in ("option", "choice", "letter", "answer"):
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
    for at, token in enumerate(tokens[:-1]):
        place = ord(letter) - ord("A")
        last = token.low == "last" and place == options - 1
        if (last or (place < len(_ORDINALS) and token.low == _ORDINALS[place])) and options:
            if tokens[at + 1].low in ("choice", "option", "answer", "alternative"):
                yield around(tokens, at, at + 1)
