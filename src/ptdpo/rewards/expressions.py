"""Mathematics in plain spelling, read into a tree. Nothing is evaluated here, and letters multiply in no word.

Grammar: sums of products of powers; a product may leave out its sign ("2πr", "3(x+1)"), but letters run together
only beside other mathematics ("2xy"), never alone ("AC", "to"), and capital letters that run together are a name.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from ptdpo.text.notation import FUNCTIONS, GREEK
from ptdpo.text.numbers import DECIMAL, read_decimal
from ptdpo.text.words import vocabulary

MAX_DEPTH = 24
_GREEK = "".join(sorted(set(GREEK.values()) - {"π"}))
_SUBSCRIPT = rf"(?:_(?:\([^()]{{1,8}}\)|[A-Za-z0-9{_GREEK}]))?'*"
_TOKEN = re.compile(
    rf"\s*(?:(?P<number>{DECIMAL})|\\(?P<function>[a-z]+(?:_(?:\([^()]{{1,8}}\)|[\da-z]))?)"
    rf"|(?P<name>[A-Z]{{2,}}(?![a-z])|[A-Za-z{_GREEK}]{_SUBSCRIPT})|(?P<sign>[-+*/^()!|π°%]))"
)
_WORD = re.compile(r"[A-Za-z]{2,}")
# Runs of letters that are words or units, whatever stands beside them.
_WORDS = vocabulary(
    """
    to or of in on no is at by as an and the not cm mm km kg dm mg ml am pm if so it we be do go up yes nor off per out
    for all any one two six ten odd even true false none each both more less than from with ft yd mi oz lb hz min max
    """
)
# Those that are products of variables where there are powers and fractions: "v t + at^2/2".
_VARIABLES = vocabulary("at as an it be we do go so ft")
_EVIDENCE = re.compile(rf"\d|[+*/^π√|]|\\[a-z]|[{_GREEK}]|(?<![A-Za-z])-|[A-Za-z)]\s*-\s*[A-Za-z(\d]")
_INDEX = re.compile(r"_(?:\([^()]*\)|\w)")
_BASE = re.compile(r"(\\[a-z]+)_(?:\([^()]*\)|\w)")
# Two capital letters or more in a row, whatever their indices: a formula of chemistry or a name, no product.
_FORMULA = re.compile(r"[\d\s]*(?:[A-Z][a-z]?(?:_(?:\d|\(\d+\)))?\s*|[()]){2,}")
# Dates and telephone numbers, derivatives, values of functions and probabilities: neither differences nor products.
_NO_PRODUCT = re.compile(
    r"^\d+(?:\s*[-/]\s*\d+){2,}$|\(\(d\s?\w*\)/\(d\s?\w+\)\)|\bd\s?[A-Za-z]\s*/\s*d\s?[A-Za-z]\b"
    r"|(?<![A-Za-z\\])[fgFG]'*\(|(?<![A-Za-z])P\(\s*[A-Z]"
)
_LABEL = re.compile(r"[A-Za-z]\d|\d\s+\d")


@dataclass(frozen=True, slots=True)
class Node:
    """A number, a symbol, or an operation on nodes: + * / ^ neg, or the name of a function."""

    operation: str
    parts: tuple["Node", ...] = ()
    value: Fraction = Fraction(0)
    name: str = ""

    def symbols(self) -> frozenset[str]:
        """Return the names of the variables."""
        own = frozenset({self.name}) if self.operation == "symbol" else frozenset()
        return own.union(*(part.symbols() for part in self.parts))


class _Unreadable(Exception):  # noqa: N818  (a signal, not an error)
    pass


@lru_cache(maxsize=4096)
def read_expression(text: str) -> Node | None:
    """Return a plain answer as mathematics, or ``None`` if it is something else, or more than this reader knows."""
    if (
        not text
        or _FORMULA.fullmatch(text)
        or _NO_PRODUCT.search(text)
        or _LABEL.search(_INDEX.sub("", _BASE.sub(r"\1 ", text)))
        or not _letters_may_multiply(text)
    ):
        return None
    try:
        parser = _Parser(_tokens(text))
        node = parser.sum(0)
    except _Unreadable:
        return None
    return node if parser.at == len(parser.tokens) else None


def _letters_may_multiply(text: str) -> bool:
    bare = re.sub(r"\\[a-z]+", " ", _INDEX.sub(" ", text))
    runs = [run for run in _WORD.findall(bare) if not run.isupper()]
    words = _WORDS - _VARIABLES if re.search(r"\^|\)/\(", text) else _WORDS
    if any(len(run) > 4 or run.lower() in words for run in runs):
        return False
    return not _WORD.search(bare) or bool(_EVIDENCE.search(text))


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, position, depth = [], 0, 0
    text = text.strip()
    while position < len(text):
        found = _TOKEN.match(text, position)
        if not found:
            raise _Unreadable
        kind, word = str(found.lastgroup), found[str(found.lastgroup)]
        depth += (word == "(") - (word == ")")
        if depth and "," in word:
            # (1,234) is a point.
            raise _Unreadable
        tokens.append((kind, word))
        position = found.end()
    return tokens


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens, self.at, self.bars = tokens, 0, 0

    def _look(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def _kind(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def _take(self, sign: str) -> bool:
        found = self._kind() == "sign" and self._look() == sign
        self.at += found
        return found

    def sum(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise _Unreadable
        node = self._signed(depth)
        while self._kind() == "sign" and self._look() in "+-":
            minus = self._look() == "-"
            self.at += 1
            right = self._signed(depth)
            node = Node("+", (node, Node("neg", (right,)) if minus else right))
        return node

    def _signed(self, depth: int) -> Node:
        if self._take("-"):
            return Node("neg", (self._signed_once(depth),))
        self._take("+")
        return self._signed_once(depth)

    def _signed_once(self, depth: int) -> Node:
        if self._kind() == "sign" and self._look() in "+-":
            raise _Unreadable
        return self._product(depth)

    def _product(self, depth: int) -> Node:
        node = self._power(depth)
        while True:
            if self._take("*"):
                node = Node("*", (node, self._factor(depth)))
            elif self._take("/"):
                node = Node("/", (node, self._factor(depth)))
            elif self._starts_factor():
                node = Node("*", (node, self._power(depth)))
            else:
                return node

    def _factor(self, depth: int) -> Node:
        if self._take("-"):
            return Node("neg", (self._power(depth),))
        return self._power(depth)

    def _starts_factor(self) -> bool:
        kind, word = self._kind(), self._look()
        # "2 3" is no product; "|" opens only outside a pair.
        return kind in ("function", "name") or (kind == "sign" and (word in "(π" or (word == "|" and not self.bars)))

    def _power(self, depth: int) -> Node:
        base = self._postfix(depth)
        if not self._take("^"):
            return base
        return Node("^", (base, self._exponent(depth)))

    def _exponent(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise _Unreadable
        if self._take("-"):
            return Node("neg", (self._exponent(depth + 1),))
        # One figure or letter: "e^2x" is e^2 x.
        base = self._atom(depth + 1)
        return Node("^", (base, self._exponent(depth + 1))) if self._take("^") else base

    def _postfix(self, depth: int) -> Node:
        node = self._atom(depth)
        while self._kind() == "sign" and self._look() in ("!", "°", "%"):
            sign = self._look()
            self.at += 1
            node = Node({"!": "factorial", "°": "degrees", "%": "percent"}[sign], (node,))
        return node

    def _atom(self, depth: int) -> Node:
        kind, word = self._kind(), self._look()
        self.at += 1
        if kind == "number":
            return Node("number", value=read_decimal(word))
        if kind == "name":
            return Node("constant", name=word) if word in ("e", "i") else Node("symbol", name=_name(word))
        if kind == "function":
            return self._function(word, depth + 1)
        if word == "π":
            return Node("constant", name="π")
        if word == "(":
            self.at -= 1
            return self._bracket(depth)
        if word == "|":
            self.bars += 1
            node = self.sum(depth + 1)
            self.bars -= 1
            if not self._take("|"):
                raise _Unreadable
            return Node("abs", (node,))
        raise _Unreadable

    def _function(self, word: str, depth: int) -> Node:
        name, _, index = word.partition("_")
        if depth > MAX_DEPTH or (index and name != "log") or name not in (*FUNCTIONS, "root"):
            raise _Unreadable
        if name == "root":
            return Node("root", (self._bracket(depth), self._bracket(depth)))
        base = read_expression(index.strip("()")) if index else None
        if index and base is None:
            raise _Unreadable
        power = self._exponent(depth) if name != "sqrt" and self._take("^") else None
        argument = self._argument(name, depth)
        if power is not None and power.operation == "neg":
            # An inverse function or a reciprocal: not ours to say.
            raise _Unreadable
        node = Node(name, (argument,) if base is None else (argument, base))
        return node if power is None else Node("^", (node, power))

    def _bracket(self, depth: int) -> Node:
        if not self._take("("):
            raise _Unreadable
        node = self.sum(depth + 1)
        if not self._take(")"):
            raise _Unreadable
        return node

    def _argument(self, name: str, depth: int) -> Node:
        """Read what a function applies to: brackets, or the factors that follow, "sin 2x"."""
        if name in ("sqrt", "exp") or (self._kind() == "sign" and self._look() in "(|"):
            return self._postfix(depth)
        if self._take("-"):
            return Node("neg", (self._argument(name, depth + 1),))
        node = self._power(depth)
        while self._kind() == "name" or (self._kind() == "sign" and self._look() == "π"):
            node = Node("*", (node, self._power(depth)))
        return node


def _name(word: str) -> str:
    return word.replace("(", "").replace(")", "")
