"""Where an answer may stand when no box holds it."""

import re

from ptdpo.rewards.extraction import UNFINISHED, Found, boxed_answer, without_thinking

_TAIL = 2000
_LETTER = r"[(\[]?\**([A-J])\**(?:[)\]]|(?![\w'’]))"
_RIGHT = r"(?:correct|right|best|final|most appropriate)"
# The first that finds something names the fall-back; the last occurrence of it counts. Group 1 is the answer.
_PLACES = (
    ("answer tag", re.compile(r"<answer>([^<>]*)</answer>", re.IGNORECASE)),
    (
        "answer line",
        re.compile(
            r"(?:^|[\n.*#>\s])(?:final |correct )?answer(?:\*\*|__)?[ \t]*[:：](?:\*\*|__)?[ \t]*\n*[ \t]*([^\n]+)"
            r"|答案[是为]?[:：]?[ \t]*([^\n]+)",
            re.IGNORECASE,
        ),
    ),
    ("heading", re.compile(r"(?:^|\n)#+[ \t]*(?:final )?answer[ \t]*\n+[ \t]*([^\n]+)", re.IGNORECASE)),
    (
        "the answer is",
        re.compile(
            rf"(?:(?:{_RIGHT} )?(?:answer|result|solution|option|choice)(?: to (?:the|this) question)?|{_RIGHT} one)"
            r"[ \t]+(?:is|would be|must be|should be|equals)\b[ \t]*[:：]?\s*(?=([^\n]+))",
            re.IGNORECASE,
        ),
    ),
    ("correct option", re.compile(rf"(?:option|choice)[ \t]+{_LETTER}(?=[^.\n]{{0,80}}?\bis (?:the )?{_RIGHT}\b)")),
    ("bare box", re.compile(r"boxed(?:\{([^{}]+)\}|[ \t]+([^\s{}]+))")),
    ("whole response", re.compile(r"\A\s*([^\n]{1,80})\s*\Z")),
    ("last line", re.compile(rf"(?:\A|\n)[ \t]*({_LETTER}[^\n]{{0,80}})\s*\Z")),
)
_OPTION_LINE = re.compile(r"(?:^|\n)[ \t]*[(\[]?[A-J][)\].:]")
_CHOICE = re.compile(rf"(?:option |choice )?{_LETTER}(?P<rest>.*)", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<=[^\d\s.])[.!?](?=\s|$)|(?<=\d)[.!?](?=\s|$)|[。！？]|</s>")
_OTHER_CHOICE = re.compile(r"\b(?:or|nor|and|not|neither|either)\b|\?", re.IGNORECASE)
_DENIED = re.compile(r"^\s*(?:not|neither|incorrect|wrong|unclear|unknown|cannot|none|either|missing)\b", re.IGNORECASE)


def find_answer(response: str, *, prompt_opens_think: bool = False) -> Found:
    """Return the answer of a response and where it was found.

    The last complete box counts, or the list that the last boxes form; without one, what the text after the thinking
    calls its answer. A response whose thinking never ends has none.
    """
    text = without_thinking(response, prompt_opens_think=prompt_opens_think)
    if text is None:
        return Found("", "", UNFINISHED)
    boxed = boxed_answer(text)
    if boxed is not None:
        return Found(boxed, "boxed")
    for name, pattern in _PLACES:
        last = None
        for found in pattern.finditer(text[-_TAIL:] if name != "whole response" else text):
            last = found
        if last is not None:
            if name == "last line" and _OPTION_LINE.search(text[: text.rstrip().rfind("\n") + 1]):
                # The options, said again.
                return Found("", "")
            answer = _tidy(next(group for group in last.groups() if group is not None))
            return Found(answer, name) if answer else Found("", "")
    return Found("", "")


def _tidy(text: str) -> str:
    """Return the answer in the rest of a line: up to the end of its sentence; a letter without its explanation."""
    if _DENIED.match(text):
        return ""
    text = text.strip().strip("*`_ \t")
    ends = _SENTENCE_END.search(text)
    sentence = text[: ends.start()] if ends else text
    choice = _CHOICE.match(text)
    if choice and not _OTHER_CHOICE.search(sentence[choice.end(1) - choice.start() :]):
        rest = choice["rest"].lstrip()
        # "B. Here is why ..." and "A because ..." choose; "A cat" and "I think" do not.
        if not rest or rest[0] in ".,:;)]*—-–" or text[0] in "([" or re.match(r"(?:because|since|as)\b", rest):
            return _letter_with_text(choice, sentence)
    return sentence.strip("*`_ \t")


def _letter_with_text(choice: re.Match[str], sentence: str) -> str:
    """Return "B. 30 cm" as it stands where the text is short, and the letter alone before an explanation."""
    return sentence.strip("*`_ \t") if len(sentence) <= 80 and len(sentence) > 3 else choice[1]
