"""Running text as a list of tokens: LaTeX and typographic signs are reduced to plain ones, number words to numbers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ptdpo.text.cjk import separated
from ptdpo.text.notation import COMMAND_SIGNS, latex_sugar_off, signs
from ptdpo.text.number_words import spoken_number
from ptdpo.text.numbers import DECIMAL_IN_TEXT, read_decimal

# What lies beyond is not read: it is the most that a hint may have.
MAX_CHARACTERS = 6_000
_MAX_DIGITS = 15

_FRACTION = re.compile(r"\\frac\s{0,4}\{([^{}]{0,60})\}\s{0,4}\{([^{}]{0,60})\}")
_ROOT = re.compile(r"(?:\\sqrt|√)\s{0,4}\{([^{}]{0,60})\}")
_COMMAND = re.compile(r"\\([a-zA-Z]+|.)")
# Signs that are words of running text, or that only group.
_WORDED = {"π": " pi ", "√": " sqrt ", "Ω": " ohm ", "**": "^", "$": "", "{": "(", "}": ")"}
_SIGN = re.compile("|".join(map(re.escape, _WORDED)))
_TOKEN = re.compile(
    r"(?P<label>[^\W\d_]{1,20}\d\w{0,20})"
    rf"|(?P<number>(?:{DECIMAL_IN_TEXT})(?:[eE][+-]?\d{{1,2}}(?!\w))?)"
    r"|(?P<word>[^\W\d_]+(?:'[^\W\d_]+)?)"
    r"|(?P<sign>\S)"
)
_ENDS = frozenset(".!?;")


@dataclass(frozen=True, slots=True)
class Token:
    """One word, number, label ("S3") or sign.

    Attributes:
        text: as written, after LaTeX was reduced.
        low: in lower case.
        kind: ``word``, ``number``, ``label`` or ``sign``.
        sentence: index of the sentence.
        glued: whether it follows the token before it without a space.
        value: of a number.
        spelled: whether a number was written in words.
    """

    text: str
    low: str
    kind: str
    sentence: int
    glued: bool
    value: float | None = None
    spelled: bool = False


def plain_signs(text: str) -> str:
    """Return the text with LaTeX and typographic signs reduced to plain ones: fractions to a/b, × to *."""
    text = latex_sugar_off(signs(text[:MAX_CHARACTERS].replace("—", ";").replace("\\boxed", " boxed ")))
    text = _ROOT.sub(r" sqrt(\1) ", _FRACTION.sub(_ratio, separated(text)))
    text = _COMMAND.sub(lambda found: COMMAND_SIGNS.get(found[1], f" {found[1]}"), text)
    return _SIGN.sub(lambda found: _WORDED[found[0]], text)


def _ratio(found: re.Match[str]) -> str:
    simple = found[1].strip().isdigit() and found[2].strip().isdigit()
    return f" {found[1].strip()}/{found[2].strip()} " if simple else f" ({found[1]})/({found[2]}) "


def tokenise(*parts: str) -> list[Token]:
    """Return the tokens of the parts; no sentence spans two of them."""
    tokens: list[Token] = []
    sentence = 0
    for part in parts:
        for token in _scan(plain_signs(part), sentence):
            tokens.append(token)
            sentence = token.sentence
        sentence += 1
    return _fold_number_words(tokens)


def _fold_number_words(tokens: Sequence[Token]) -> list[Token]:
    """Return the tokens with each number in words folded into one number token."""
    folded: list[Token] = []
    position = 0
    while position < len(tokens):
        value, end = spoken_number(tokens, position)
        token = tokens[position]
        if value is None:
            folded.append(token)
        else:
            text = " ".join(token.text for token in tokens[position:end])
            spelled = token.kind == "word"
            folded.append(
                replace(token, text=text, low=text.lower(), kind="number", value=float(value), spelled=spelled)
            )
        position = end
    return folded


def _scan(text: str, sentence: int) -> list[Token]:
    tokens, end = [], -1
    for found in _TOKEN.finditer(text):
        kind, word = str(found.lastgroup), found[0]
        readable = kind == "number" and len(word.replace(",", "")) <= _MAX_DIGITS
        value = float(read_decimal(word)) if readable else None
        tokens.append(Token(word, word.lower(), kind, sentence, found.start() == end, value))
        end = found.end()
        if word in _ENDS:
            sentence += 1
    return tokens


def sentences(tokens: Sequence[Token]) -> list[list[Token]]:
    """Return the tokens grouped by sentence."""
    groups: dict[int, list[Token]] = {}
    for token in tokens:
        groups.setdefault(token.sentence, []).append(token)
    return list(groups.values())


def around(tokens: Sequence[Token], first: int, last: int) -> str:
    """Return the words around a span within its sentence, to show why a hint was rejected."""
    last = min(last, len(tokens) - 1)
    kept = {tokens[first].sentence, tokens[last].sentence}
    shown = [t for t in tokens[max(0, first - 4) : last + 5] if t.sentence in kept]
    return "".join(t.text if t.glued else f" {t.text}" for t in shown).strip()[:120]
