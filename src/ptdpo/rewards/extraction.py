"""Find the boxed answer in a response, and whether it has the asked-for form. Linear in its length."""

import re
from dataclasses import dataclass
from itertools import pairwise

from ptdpo.text.thinking import CLOSE, OPEN

# A brace, or an escaped character, which is none.
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BOX = re.compile(r"\\f?boxed\s*(?=\{)|\\fbox\s*(?=\{)")
UNFINISHED = "the thinking never ends"
# What may stand between the boxes of one list.
_GAP = r"(?:[\s$,;]|\\q?quad|\\[,;:! ])*"
_JOINT = re.compile(rf"{_GAP}(?:(?:and|or|und|和|或|、|\\text\{{\s*(?:and|or)\s*\}}){_GAP})?")
_ALTERNATIVE = re.compile(r"\bor\b|或")
# A box that the words before it deny: "not \\boxed{3}".
_DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|never|cannot)|n't)(?: be| get| obtain| equal(?: to)?)?[\s$:*]{1,6}$"
    r"|\b(?:rather than|instead of)[\s$:*]{1,6}$",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(
    r"[\s$.,)?\\]{0,8}(?:(?:is|was|would be|seems|looks)\s+(?:wrong|incorrect|false|not|a mistake)"
    r"|(?:oh |actually,? )?no,? (?:wait|that|it)|wait|sorry|oops|hmm"
    r"|[^.\n]{0,80}\b(?:but|though|although|however),? (?:it|that|this) (?:is|was) (?:wrong|incorrect|false|not)"
    r"|(?:\.\s+)?(?:but )?(?:that|this)(?:'s| is| was) (?:a mistake|wrong|incorrect|not (?:right|correct)))\b",
    re.IGNORECASE,
)
_MOST_BOXES = 12


@dataclass(frozen=True, slots=True)
class Found:
    """An answer in a response.

    Attributes:
        text: the answer; empty if there is none.
        place: "boxed", the name of the fall-back that found it, or "" if none did.
        note: why there is none, where that is known.
        rest: what the sentence after a letter says, outside a box.
    """

    text: str
    place: str
    note: str = ""
    rest: str = ""


def last_boxed(text: str) -> str | None:
    """Return the content of the last complete ``\\boxed{...}`` or ``\\fbox{...}``, nested braces included, or ``None``.

    An unclosed box does not count: the one before it does.
    """
    boxes = _boxes(text, 1)
    return text[boxes[0][1] : boxes[0][2]].strip() if boxes else None


def boxed_answer(text: str) -> str | None:
    """Return the content of the last box, or of the boxes of a list, "\\boxed{2} and \\boxed{3}", joined by commas.

    A box that the same sentence takes back ("\\boxed{12} is wrong") makes the answer empty.
    """
    boxes = _boxes(text, _MOST_BOXES)
    if not boxes:
        return None
    if _TAKEN_BACK.match(text, boxes[0][2] + 1) or _DENIED_BEFORE.search(text[max(0, boxes[0][0] - 40) : boxes[0][0]]):
        return ""
    parts, alternatives = [text[boxes[0][1] : boxes[0][2]].strip()], False
    for later, (_, start, end) in pairwise(boxes):
        between = text[end + 1 : later[0]]
        if not _JOINT.fullmatch(between):
            break
        alternatives |= bool(_ALTERNATIVE.search(between))
        parts.insert(0, text[start:end].strip())
    # The same answer given twice is one answer.
    return (" or " if alternatives else ", ").join(dict.fromkeys(parts))


def follows_format(response: str, *, prompt_opens_think: bool = False) -> bool:
    """Return whether a response thinks once inside <think> </think> and boxes an answer after it.

    Args:
        response: the response as decoded.
        prompt_opens_think: the prompt ends with <think>, as thinking templates do: then the response must not
            open it again. Responses that open it themselves are accepted in either case if they begin with it.
    """
    text = response.strip()
    if text.startswith(OPEN):
        text = text[len(OPEN) :]
    elif not prompt_opens_think:
        return False
    thinking, closed, rest = text.partition(CLOSE)
    if not closed or OPEN in thinking or OPEN in rest or CLOSE in rest:
        return False
    return bool(thinking.strip()) and last_boxed(rest) is not None


def _boxes(text: str, most: int) -> list[tuple[int, int, int]]:
    """Return where the last complete boxes begin, and their content, last first; those inside another do not count."""
    closing = _closing_braces(text)
    found: list[tuple[int, int, int]] = []
    for box in reversed(list(_BOX.finditer(text))):
        if box.end() in closing and len(found) < most:
            found.append((box.start(), box.end() + 1, closing[box.end()]))
    if most == 1:
        return found[:1]
    return [one for one in found if not any(outer[0] < one[0] and one[2] < outer[2] for outer in found)]


def _closing_braces(text: str) -> dict[int, int]:
    """Return the position of the closing brace of every opening one that has a partner."""
    pairs: dict[int, int] = {}
    opened: list[int] = []
    for found in _BRACE.finditer(text):
        char = found[0]
        if char == "{":
            opened.append(found.start())
        elif char == "}" and opened:
            pairs[opened.pop()] = found.start()
    return pairs
