"""A hint as a list of tokens: LaTeX and typographic signs are reduced to plain ones, number words to numbers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from ptdpo.text.cjk import separated
from ptdpo.text.number_words import read_number

# What lies beyond is not read: a hint of this length is rejected for its length alone.
MAX_CHARACTERS = 6_000
_MAX_DIGITS = 15

_FRACTION = re.compile(r"\\[dt]?frac\s{0,4}\{([^{}]{0,60})\}\s{0,4}\{([^{}]{0,60})\}")
_ROOT = re.compile(r"\\sqrt\s{0,4}\{([^{}]{0,60})\}")
_WRAPPER = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname)\s{0,4}\{([^{}]{0,200})\}")
_DEGREE = re.compile(r"\^\s{0,2}(?:\\circ|\{\s{0,2}\\circ\s{0,2}\})")
_PLAIN = {
    "\\cdot": "*", "\\times": "*", "×": "*", "·": "*", "⋅": "*", "∙": "*", "**": "^", "\\div": "/", "÷": "/", "−": "-",
    "–": "-", "—": ";", "²": "^2", "³": "^3", "½": " 1/2 ", "⅓": " 1/3 ", "⅔": " 2/3 ", "¼": " 1/4 ", "¾": " 3/4 ",
    "\\pi": " pi ", "π": " pi ", "√": " sqrt ", "\\left": "", "\\right": "", "\\,": "", "\\!": "", "\\;": "",
    "\\%": "%", "$": "", "{,}": ",", "{": "(", "}": ")", "’": "'", "Ω": " ohm ",
}  # fmt: skip
# Figures, letters and signs of East Asian texts.
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {ord("。"): "."}
_SIGN = re.compile("|".join(re.escape(sign) for sign in sorted(_PLAIN, key=len, reverse=True)))
_TOKEN = re.compile(
    r"(?P<label>[^\W\d_]{1,20}\d\w{0,20})"
    r"|(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?(?:[eE][+-]?\d{1,2}(?!\w))?|\.\d+)"
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


def plain(text: str) -> str:
    """Return the text with LaTeX and typographic signs reduced to plain ones: fractions to a/b, × to *."""
    text = separated(_WRAPPER.sub(r"\1", text[:MAX_CHARACTERS].translate(_FULL_WIDTH)))
    text = _DEGREE.sub("°", text)
    text = _ROOT.sub(r" sqrt(\1) ", text)
    text = _FRACTION.sub(_ratio, text)
    return _SIGN.sub(lambda found: _PLAIN[found[0]], text).replace("\\", " ")


def _ratio(found: re.Match[str]) -> str:
    simple = found[1].strip().isdigit() and found[2].strip().isdigit()
    return f" {found[1].strip()}/{found[2].strip()} " if simple else f" ({found[1]})/({found[2]}) "


def tokenise(*parts: str) -> list[Token]:
    """Return the tokens of the parts; no sentence spans two of them."""
    tokens: list[Token] = []
    sentence = 0
    for part in parts:
        for token in _scan(plain(part), sentence):
            tokens.append(token)
            sentence = token.sentence
        sentence += 1
    return _fold_number_words(tokens)


def _fold_number_words(tokens: Sequence[Token]) -> list[Token]:
    """Return the tokens with each number in words folded into one number token."""
    folded: list[Token] = []
    position = 0
    while position < len(tokens):
        value, end = read_number(tokens, position)
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
        digits = word.replace(",", "")
        value = float(digits) if kind == "number" and len(digits) <= _MAX_DIGITS else None
        tokens.append(Token(word, word.lower(), kind, sentence, found.start() == end, value))
        end = found.end()
        if word in _ENDS:
            sentence += 1
    return tokens


_IRREGULAR = {
    "leaves": "leaf", "halves": "half", "knives": "knife", "wolves": "wolf", "shelves": "shelf", "loaves": "loaf",
    "children": "child", "feet": "foot", "men": "man", "women": "woman", "teeth": "tooth", "mice": "mouse",
    "geese": "goose", "people": "person", "vertices": "vertex", "axes": "axis", "grey": "gray",
}  # fmt: skip


@lru_cache(maxsize=4096)
def stem(word: str) -> str:
    """Return a rough stem: without plural and -ing, -ed, -en; grey is gray, triangular is triangle."""
    word = word.lower().removesuffix("'s")
    word = _IRREGULAR.get(word, word)
    if word.endswith("s") and not word.endswith("ss") and len(word) > 3:
        word = word[:-1]
    if word.endswith("ular"):
        word = word[:-4] + "l"
    for ending in ("ing", "ed", "en", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word.removesuffix(ending)
            break
    return word[:-1] + "i" if word.endswith("y") and len(word) > 3 else word


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
