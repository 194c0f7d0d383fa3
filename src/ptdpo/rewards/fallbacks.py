"""Where an answer may stand when no box holds it."""

import re

from ptdpo.rewards.extraction import last_boxed

# The first that matches names the fall-back; the last occurrence of it counts. Without a group, the answer is the
# rest of the line.
_PLACES = (
    ("answer tag", re.compile(r"<answer>([^<>]*)</answer>", re.IGNORECASE)),
    ("answer line", re.compile(r"(?:final answer|answer)(?:\*\*)?[ \t]*:", re.IGNORECASE)),
    ("the answer is", re.compile(r"(?:answer|result|solution)[ \t]+(?:is|equals)\b[ \t]*:?", re.IGNORECASE)),
    ("correct option", re.compile(r"(?:option|choice)[ \t]+\(?([A-J])\)?(?![A-Za-z])")),
)
_TAIL = 2000


def find_answer(response: str) -> tuple[str, str]:
    """Return the answer and where it was found: "boxed" or the name of a fall-back; two empty texts if nowhere."""
    boxed = last_boxed(response)
    if boxed is not None:
        return boxed, "boxed"
    text = response.rpartition("</think>")[2][-_TAIL:]
    for name, pattern in _PLACES:
        found = list(pattern.finditer(text))
        if found:
            last = found[-1]
            return _tidy(last[1] if last.groups() else text[last.end() :].partition("\n")[0]), name
    last = text.strip().rpartition("\n")[2]
    return (_tidy(last), "last line") if 0 < len(last) <= 40 else ("", "")


def _tidy(text: str) -> str:
    return text.strip("*` \t.")
