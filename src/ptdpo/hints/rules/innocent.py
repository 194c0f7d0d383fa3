"""Numbers that give nothing away: ordinals, counts of steps and regions, labels, formulas, scales, starting values."""

from collections.abc import Sequence

from ptdpo.hints.rules.formula import is_formula
from ptdpo.hints.rules.question import Question
from ptdpo.text.arithmetic import Amount
from ptdpo.text.tokens import Token
from ptdpo.text.words import stem, stems, vocabulary

_SMALL = 12
_LABELLED = vocabulary(
    """
    step stage part figure fig panel option choice question number no graph angle point bulb lamp circuit row column
    line group case picture item image frame page curve switch point label mark marked gridline tick rule pass test
    condition circle equation labelled labeled
    """
)
_PROCEDURE = stems(
    """
    step stage phase part piece region area half group category case panel quantity value thing question way move
    operation pass place side end row column tile cell axis axis candidate option alternative direction scale kind
    type cluster layer level section zone digit word name unit object figure shape time colour color hue condition
    feature cue clue look pair number letter curve bar wedge slice band symbol coordinate point
    """
)
_DEFINITE = vocabulary(
    """
    the these those all both any other your its each every first last next remaining of given same
    """
)
# What even a plain "there are two ..." may count: ways of going about it, not things seen.
_STRUCTURE = vocabulary(
    "steps stages phases ways moves operations cases things questions parts pieces regions areas zones sections groups"
)
_START = vocabulary("begin beginning start starting starts begins")
_JOINTS = vocabulary("at from with of value : is")
_SCALE_NOUNS = vocabulary(
    """
    steps intervals multiples units divisions increments scale range axis dial
    """
)
_SCALE_VERBS = vocabulary("is = stands represents means equals")
_SCALE_PARTS = vocabulary(
    """
    square squares division divisions gridline tick number cm unit step each
    """
)
_RULED = vocabulary("gridlines marks ticks lines labels divisions")
_DIVIDED = vocabulary("divide divides divided gap marks")
_GRID = vocabulary("grid frame mosaic board image square array table matrix")
_NO_NAMES = vocabulary(
    "a an the at of is are and to from by with for in on or than as about times plus minus equals gives makes has have"
)
_STOPS = vocabulary(". , ; :")
_ONLY = vocabulary("only exactly just namely precisely")


def is_innocent(tokens: Sequence[Token], amount: Amount, question: Question) -> bool:
    """Return whether a plain number stands for a step, a label, a part of a formula, a scale or a start."""
    at = amount.first
    return (
        _is_label(tokens, at)
        or _is_enumerated(tokens, at)
        or _is_grid(tokens, at)
        or is_formula(tokens, at)
        or _is_start(tokens, at)
        or _is_scale(tokens, at)
        or _is_pronoun(tokens, at, question)
        or _is_adjective(tokens, at)
        or (_is_small_count(tokens, at) and not _counts_what_is_asked(tokens, at, question))
    )


def _low(tokens: Sequence[Token], at: int) -> str:
    return tokens[at].low if 0 <= at < len(tokens) else ""


def _is_label(tokens: Sequence[Token], at: int) -> bool:
    """Step 2, bulb 3, graphs 1 to 4, the mark for 60, 1st."""
    if not tokens[at].spelled and _low(tokens, at + 1) in ("st", "nd", "rd", "th"):
        return True
    back = at - 1
    while back > max(0, at - 12) and (tokens[back].value is not None or _low(tokens, back) in (",", "and", "to", "or")):
        back -= 1
    if _low(tokens, back) in ("for", "at", "of"):
        back -= 1
        return _low(tokens, back) in ("mark", "line", "label", "gridline", "tick", "marks", "bar", "bars", "zero")
    word = _low(tokens, back)
    return not tokens[at].spelled and (word == "#" or word in _LABELLED or word.removesuffix("s") in _LABELLED)


def _is_enumerated(tokens: Sequence[Token], at: int) -> bool:
    """Lens 2 beside lens 1: the same word with another number close by."""
    if not at or tokens[at].spelled or tokens[at - 1].kind != "word" or tokens[at - 1].low in _NO_NAMES:
        return False
    nearby = range(max(1, at - 12), min(len(tokens), at + 13))
    return any(
        tokens[n].value not in (None, tokens[at].value) and tokens[n - 1].low == tokens[at - 1].low for n in nearby
    )


def _is_grid(tokens: Sequence[Token], at: int) -> bool:
    """The 3 x 3 grid, a 64 x 64 frame."""
    for start in (at, at - 2):
        between = _low(tokens, start + 1)
        if start >= 0 and between in ("x", "*", "by", "times") and _low(tokens, start + 3) in _GRID:
            return True
    return False


def _is_start(tokens: Sequence[Token], at: int) -> bool:
    """Begin 4, start from 2, a starting value of 3, begin at one."""
    near = [_low(tokens, back) for back in range(max(0, at - 4), at)]
    joined = near[-1:] and (near[-1] in _START or (near[-1] in _JOINTS and set(near[-3:-1]) & _START))
    return (tokens[at].value or 0.0) <= _SMALL and bool(joined)


def _is_scale(tokens: Sequence[Token], at: int) -> bool:
    """Steps of 10, one square is 5 cm, stands for five minutes, the scale from 0 to 15."""
    sentence = tokens[at].sentence
    near = [tokens[b].low for b in range(max(0, at - 7), at) if tokens[b].sentence == sentence]
    words, last, closing = set(near), near[-1:], set(near[-3:])
    if words & _RULED and "apart" in [t.low for t in tokens[at + 1 : at + 4]]:
        return True
    if last == ["into"] and words & _DIVIDED:
        return True
    if last in (["of"], ["by"]) and closing & _SCALE_NOUNS:
        return True
    if "from" in words and words & {"scale", "range", "axis", "dial"}:
        return True
    return bool(closing & _SCALE_VERBS and set(near[:-1]) & _SCALE_PARTS)


def _is_pronoun(tokens: Sequence[Token], at: int, question: Question) -> bool:
    """The ordinary word "one", but not "only one" or "one dog" where dogs are counted."""
    if tokens[at].low != "one":
        return False
    return _low(tokens, at - 1) not in _ONLY | {"is", "make", "makes"} and not _counts_what_is_asked(
        tokens, at, question
    )


def _is_adjective(tokens: Sequence[Token], at: int) -> bool:
    """Three-cornered, two-step, two by two."""
    hyphened = _low(tokens, at + 1) == "-" and tokens[at + 1].glued and at + 2 < len(tokens) and tokens[at + 2].glued
    if hyphened and tokens[at].spelled:
        return tokens[at + 2].kind == "word"
    return _low(tokens, at + 1) == "by" and _low(tokens, at + 2) == tokens[at].low


def _is_small_count(tokens: Sequence[Token], at: int) -> bool:
    """Two regions, the three tiles, all 7 bars."""
    value = tokens[at].value or 0.0
    if value > _SMALL or value != int(value) or value < 1:
        return False
    if tokens[at].spelled and _low(tokens, at - 1) in ("the", "these", "those") and _low(tokens, at + 1) in _STOPS:
        return True
    nouns = [t for t in tokens[at + 1 : at + 4] if t.kind == "word" and t.sentence == tokens[at].sentence]
    if _low(tokens, at - 1) in ("other", "others", "remaining"):
        return True
    if not nouns or tokens[at + 1].kind != "word" or tokens[at + 1].low in _VERBS_AND_JOINTS:
        return False
    if _low(tokens, at - 1) in _ONLY or _low(tokens, at - 1) in ("has", "have", "find", "are", "there"):
        return nouns[0].low in _STRUCTURE
    return _low(tokens, at - 1) in _DEFINITE or any(_is_procedure(noun) for noun in nouns)


_VERBS_AND_JOINTS = vocabulary("is are of in on at and or for to with has have makes make gives")


def _is_procedure(token: Token) -> bool:
    return stem(token.low) in _PROCEDURE


def _counts_what_is_asked(tokens: Sequence[Token], at: int, question: Question) -> bool:
    """Return whether one of the next words is what the question wants counted."""
    nearby = tokens[at + 1 : at + 4]
    return any(stem(t.low) in question.asked for t in nearby if t.sentence == tokens[at].sentence)
