"""Answers in words: yes and no, names, labels and formulas, compared as text."""

import re
from functools import lru_cache

from ptdpo.rewards.kinds import Same
from ptdpo.text.notation import GAP, squeezed

_VERDICTS = ("yes", "no", "true", "false")
# A statement is true, a question is answered with yes: the same.
_AS_VERDICT = {"yes": True, "true": True, "no": False, "false": False}
_CLAUSE = re.compile(r"(yes|no|true|false)\s*[,;:.-]\s*(.+)", re.IGNORECASE)
# A clause after the verdict must not take it back, nor leave it open.
_UNSURE = re.compile(
    r"\b(?:or|maybe|perhaps|but|however|wait|although|unless|actually|answer|idea|sure|unsure|cannot|can't|unknown|"
    r"depends|if|provided|assuming|only (?:when|for|in)|sometimes|partly|and (?:yes|no)|wrong|incorrect|rather|"
    r"correction)\b|\?|[.!]\s*\w",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"^(?:the|an?)\s+(?=[A-Za-z0-9]{2})", re.IGNORECASE)
_LED = re.compile(r"^(?:the|an?|it|they)\s+(?=[A-Za-z0-9]{2})", re.IGNORECASE)
_WORDS = re.compile(r"[^\W\d_]+(?:[\s'-]+[^\W\d_]+)*")
_INDEX = re.compile(r"(?<=[A-Za-z)\]])(?<!\\log)_(?:\((\d+)\)|(\d))")
# A formula of chemistry, or a reaction.
_FORMULA = re.compile(r"[\d\s]*[A-Z][A-Za-z0-9()\[\]_^+\s→⇌←↔-]*")
_ARROW = re.compile(r"([→⇌←↔])")
_CHARGED = re.compile(r"\^\(?\d*[+-]\)?$")
_CHARGE = re.compile(r"\^\((\d*[+-])\)")


@lru_cache(maxsize=4096)
def literal(text: str) -> str:
    """Return what two spellings of one text share: indices without marks, no space that means nothing; case is kept."""
    if is_chemistry(text):
        text = text.replace(" ", "")
    text = re.sub(r"(?<=\d), (?=\d)", f",{GAP}", text)
    text = _CHARGE.sub(r"^\1", _INDEX.sub(r"\1\2", text))
    return re.sub(r"\s*([^\w\s])\s*", r"\1", squeezed(text))


def is_chemistry(text: str) -> bool:
    """Return whether a plain answer looks like a formula of chemistry or a reaction: H_2O, SO_4^2-, 2H_2+O_2→2H_2O."""
    return bool(_FORMULA.fullmatch(text) and re.search(r"\d|\^", text)) and not re.search(r"[a-z]{3}", text)


def read_verdict(text: str) -> str | None:
    """Return yes, no, true or false."""
    low = text.lower()
    return low if low in _VERDICTS else None


def same_verdict(given: str, expected: str, same: Same) -> bool:
    """Return whether an answer says so, alone or before a clause that neither denies nor doubts it."""
    if _AS_VERDICT.get(given.lower().rstrip("!")) == _AS_VERDICT[expected]:
        return True
    found = _CLAUSE.fullmatch(given)
    if not found or found[1].lower() != expected:
        return False
    clause = found[2]
    others = set(re.findall(r"\b(?:yes|no|not|true|false|isn't|aren't|doesn't|don't)\b", clause.lower()))
    denied = others - ({"not", "isn't", "aren't", "doesn't", "don't"} if expected in ("no", "false") else set())
    return not denied and not _UNSURE.search(clause) and len(clause.split()) > 1


def same_words(given: str, expected: str, same: Same) -> bool:
    """Return whether two texts are the same words; articles in front and the case of words mean nothing."""
    if _same_ion(given, expected) or _same_ion(expected, given) or _same_reaction(given, expected):
        return True
    first, second = _LED.sub("", given, count=1), _ARTICLE.sub("", expected, count=1)
    first, second = (re.sub(r"^([\"'])(.*)\1$", r"\2", text) for text in (first, second))
    if literal(first) == literal(second):
        return True
    if not (_WORDS.fullmatch(first) and _WORDS.fullmatch(second)):
        # Names with figures, "Figure 2": words in any case, figures alike.
        if not re.search(r"[A-Za-z]{3}", second) or not re.fullmatch(r"[\w\s'.,&-]+", second):
            return False
        return _folded_alike(first, second)
    return _folded_alike(first, second)


def _same_ion(bare: str, marked: str) -> bool:
    """Return whether one is the other typed plainly: Fe3+ for Fe^{3+}, NH4+ for NH_4^+; not Fe3+ for Fe_3^+."""
    if "^" in bare or not _CHARGED.search(marked) or not (is_chemistry(bare) and is_chemistry(marked)):
        return False
    text = literal(marked)
    return literal(bare) == text.replace("^", "") and not re.fullmatch(r"[A-Z][a-z]?\d+\^[+-]", text)


def _same_reaction(given: str, expected: str) -> bool:
    """Return whether two reactions have the same arrow, and the same terms on each side in any order."""
    sides = [_ARROW.split(text) for text in (given, expected)]
    if any(len(parts) != 3 for parts in sides) or not (is_chemistry(given) and is_chemistry(expected)):
        return False
    first, second = ([_terms(left), arrow, _terms(right)] for left, arrow, right in sides)
    return first == second


def _terms(side: str) -> list[str]:
    # The sign of a charge stands before no term.
    return sorted(literal(term) for term in re.split(r"\s*\+\s*(?=[\dA-Z])", side))


def _folded_alike(given: str, expected: str) -> bool:
    if ("-" in given) != ("-" in expected) and " " not in given + expected:
        # north-east and northeast.
        first, second = (text.split("-") for text in (given, expected))
        if not all((*first, *second)):
            # A hyphen in front is a minus.
            return False
        plainly = all(_same_word(part, part.lower()) for part in (*first, *second))
        return plainly and "".join(first).lower() == "".join(second).lower()
    first, second = (re.sub(r"(?<=\w)\s*-\s*(?=\w)|\s+", " ", text).split() for text in (given, expected))
    return len(first) == len(second) and all(map(_same_word, first, second))


def _same_word(given: str, expected: str) -> bool:
    if given == expected:
        return True
    if given.lower() != expected.lower() or len(given) == 1:
        return False
    # NaCl and NaCL, Co and CO are not the same; "Left", "left" and "LEFT" are.
    shapes = [word.islower() or word.istitle() or (word.isupper() and len(word) > 2) for word in (given, expected)]
    return all(shapes)
