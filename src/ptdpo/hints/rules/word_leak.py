"""Does a hint hold an answer in words?"""

import re
from collections.abc import Iterator, Sequence

from ptdpo.hints.rules.answers import Answer
from ptdpo.hints.rules.question import Question
from ptdpo.text.number_words import ORDINALS
from ptdpo.text.tokens import Token, around, sentences, tokenise
from ptdpo.text.words import stem, vocabulary

# Words that state a conclusion; after one of them even a word of the question gives the answer away.
_CONCLUDE = vocabulary(
    """
    answer pick choose mark select therefore hence thus reply say respond conclude correct is it's choice option
    close name
    """
)
# The stronger of them: they conclude even among alternatives.
_DECIDE = _CONCLUDE - vocabulary("is it's close name correct choice option")
_RIDDLES = (
    "starts with the letter",
    "begins with the letter",
    "rhymes with",
    "anagram of",
    "is spelled",
    "first letter is",
)
_LISTED = vocabulary("or versus vs nor")


def word_leaks(tokens: Sequence[Token], answer: Answer, question: Question) -> Iterator[str]:
    """Yield where an answer in words is named, described letter by letter, or hinted at by a riddle."""
    known = {stem(t.low) for t in question.tokens}
    quoted = all(word in known for word in answer.words)
    offering = _offering(tokens, answer)
    for first, last in _places(tokens, answer.words):
        offered = tokens[first].sentence in offering or _is_listed(tokens, first, last)
        if offered and not _is_concluded(tokens, first, _DECIDE):
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


def _is_listed(tokens: Sequence[Token], first: int, last: int) -> bool:
    """Return whether the words stand next to an "or"."""
    return bool({t.low for t in [*tokens[max(0, first - 2) : first], *tokens[last + 1 : last + 3]]} & _LISTED)


def _offering(tokens: Sequence[Token], answer: Answer) -> set[int]:
    """Return the sentences that lay out alternatives: "compare", another option, another of a numbered kind."""
    others = [_words(text) for letter, text in answer.options.items() if letter != answer.letter]
    span = [t for t in tokenise(answer.text) if t.kind != "sign"]
    return {
        sentence[0].sentence
        for sentence in sentences(tokens)
        if any(t.low == "compare" for t in sentence)
        or any(next(_places(sentence, other), None) for other in others)
        or _has_sibling(sentence, span)
    }


def _has_sibling(sentence: Sequence[Token], span: Sequence[Token]) -> bool:
    """Return whether the sentence also names another of a numbered kind: S1 beside S3, bulb 1 beside bulb 3."""
    if not span or not any(c.isdigit() for c in span[-1].text):
        return False
    shape = [re.sub(r"\d", "0", t.low) for t in span]
    seen = {
        tuple(t.low for t in sentence[at : at + len(span)])
        for at in range(len(sentence) - len(span) + 1)
        if [re.sub(r"\d", "0", t.low) for t in sentence[at : at + len(span)]] == shape
    }
    return len(seen) > 1


def _is_concluded(tokens: Sequence[Token], first: int, words: frozenset[str] = _CONCLUDE) -> bool:
    near = [t.low for t in tokens[max(0, first - 3) : first] if t.sentence == tokens[first].sentence]
    return bool(set(near) & words)


def _name_leaks(tokens: Sequence[Token], answer: Answer, known: set[str]) -> Iterator[str]:
    """Find one part of a name: Lopez for Maria Lopez."""
    parts = re.findall(r"\b[A-Z][a-z]{3,}", answer.text) if len(answer.words) > 1 and answer.text.istitle() else []
    names = {part.lower() for part in parts} - known
    for at, token in enumerate(tokens):
        if token.low in names and token.text[0].isupper():
            yield around(tokens, at, at)


def _ordinal_leaks(tokens: Sequence[Token], words: Sequence[str]) -> Iterator[str]:
    """Find "the third bulb" for bulb 3."""
    if len(words) == 2 and words[1].isdecimal() and 0 < int(words[1][:3]) <= len(ORDINALS):
        for at, token in enumerate(tokens[:-1]):
            if token.low == ORDINALS[int(words[1]) - 1] and stem(tokens[at + 1].low) == words[0]:
                yield around(tokens, at, at + 1)


def _riddles(tokens: Sequence[Token], answer: Answer) -> Iterator[str]:
    text = " ".join(t.low for t in tokens)
    yield from (cue for cue in _RIDDLES if cue in text)
    spelled = "".join(t.low for t in tokens if len(t.text) == 1 and t.text.isalpha())
    target = "".join(c for c in answer.text.lower() if c.isalpha())
    if len(target) >= 3 and target in spelled:
        yield f"{answer.text} letter by letter"
