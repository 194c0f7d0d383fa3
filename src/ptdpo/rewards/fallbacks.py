"""Where an answer may stand when no box holds it."""

import re

from ptdpo.rewards.extraction import UNFINISHED, Found, boxed_answer
from ptdpo.text.thinking import after_thinking

_TAIL = 2000
# The pronoun is no option.
_LETTER = r"[(\[]?\**(?!I \w)([A-J])\**(?:[)\]]|(?![\w'’]))"
_RIGHT = r"(?:correct|right|best|final|most appropriate)"
_IS = (
    r"[ \t]+(?:is|would be|must be|should be|equals)\b[ \t]*[:：]?\s*"
    r"(?:(?:therefore|thus|then|hence|definitely|clearly|indeed|(?:most )?likely|probably)\b,?\s*)?(?=([^\n]+))"
)
# What a response calls its answer; of these the last in the text counts. Group 1, or the next, is the answer.
_CALLED = (
    (
        "answer line",
        re.compile(
            r"(?:^|[\n.*#>\s])(?:final |correct )?answer(?:\*\*|__)?[ \t]*[:：](?:\*\*|__)?[ \t]*\n*[ \t]*(?=([^\n]+))"
            r"|(?:答案(?:选项)?[是为]?|选项[是为]|[故应]选)[:：]?[ \t]*([^\s。．.][^\n]*)"
            r"|选项\s*[(（]?([A-J])[)）]?\s*是?正确",
            re.IGNORECASE,
        ),
    ),
    ("heading", re.compile(r"(?:^|\n)#+[ \t]*(?:final )?answer[ \t]*\n+[ \t]*([^\n]+)", re.IGNORECASE)),
    (
        "the answer is",
        re.compile(
            rf"(?:(?:{_RIGHT} )?(?:answer|(?:option|choice)(?: letter)?)(?: to (?:the|this|that|your) question)?"
            rf"|{_RIGHT} one){_IS}",
            re.IGNORECASE,
        ),
    ),
    (
        "correct option",
        re.compile(
            rf"(?:[Oo]ption|[Cc]hoice)[ \t]+{_LETTER}(?=[^.\n]{{0,80}}?\bis (?:the )?{_RIGHT}\b)"
            rf"|(?:\A|\n|(?<=[.!?:]) )\**{_LETTER} is (?:the )?(?:{_RIGHT} )?(?:answer|option|choice)\b"
        ),
    ),
    (
        "choice made",
        re.compile(
            r"\b(?:I|we)(?:'ll| will| would)? (?:choose|pick|select|go with) (?:option |choice )?"
            rf"(?={_LETTER})([^\n]+)"
        ),
    ),
)
# Without one: the first of these that finds something, its last occurrence.
_PLACES = (
    ("the result is", re.compile(rf"(?:{_RIGHT} )?(?:result|solution){_IS}", re.IGNORECASE)),
    ("bare box", re.compile(r"boxed(?:\{([^{}]+)\}|[ \t]+([^\s{}]+))")),
    # "Therefore, the angle is 130°.", and a whole response of one such sentence.
    (
        "conclusion",
        re.compile(
            r"(?:(?:\A|\n|(?<=[.!?]) )(?:Therefore|Thus|So|Hence|In conclusion),? |\A\s*(?:The|There) "
            r"|\A\s*(?:Based on|According to|Given|From|Looking at|In|On) [^\n]{1,80}?, )"
            r"(?![^.\n]*(?:[.!?] |\b(?:if|not|or|would|could|might|may|cannot)\b|n't\b))"
            r"[^\n=]{0,120}(?:\b(?:is|are|was|were)(?: equal to| approximately| about)?|\bequals)[ \t]+"
            r"((?![^\n]*\b(?:is|are|was|were|equals)\b)[^\n=]{1,60})\s*(?:</s>)?\s*\Z"
        ),
    ),
    (
        "named value",
        re.compile(
            r"(?:(?:\A|\n|(?<=[.!?]) )(?:Therefore|Thus|So|Hence|In conclusion),? |\n\s*\n)"
            r"([^\s=]{1,12} ?= ?[^\n=]{1,60})\s*\Z"
        ),
    ),
    # "No, there are more cubes than spheres.", of any length.
    ("yes or no", re.compile(r"\A\s*((?:Yes|No)\b[,.][^\n]{0,200})\s*\Z")),
    # "... is C) lizard.", "... decreases. (D)".
    (
        "last letter",
        re.compile(
            r"(?:\b(?:is|are|be|shows|time|the|option)[ \t]+|[:.][ \t]+|选项[ \t]*)\**"
            r"([(\[]?[A-J][)\]](?:(?![(\[]?\b[A-J][)\]])[^\n]){0,80})\s*\Z"
        ),
    ),
    # One sentence, or one or two words and why.
    (
        "whole response",
        re.compile(r"\A\s*((?:\S+(?: \S+)?[.!?] )?(?:(?![.!?] )[^\n]){1,80}|[(\[]?[A-J][)\].:]\s[^\n]{1,240})\s*\Z"),
    ),
    (
        "last number",
        re.compile(r"\n\s*\n[ \t]*[*$]*(-?\d[\d,]*(?:\.\d+)?(?: ?[a-zA-Z%°²³/]{1,8})?)[*$.]*\s*\Z"),
    ),
    ("last line", re.compile(rf"(?:\A|\n)[ \t]*(?:Option |Choice )?({_LETTER}[^\n]{{0,80}})\s*\Z")),
    ("first line", re.compile(r"\A\s*([(\[]?[A-J][)\].:][^\n]{0,80})\n\s*\n(?!\s*[(\[]?[A-J][)\].:])")),
    # "It has nine dots. There are 3 dots in each group.": a figure at the end, and no second one in its sentence.
    (
        "last sentence",
        re.compile(
            r"(?:(?<=[.!?] )|\n\s*)(?:The|There|This|It) "
            r"(?![^.\n]*\b(?:if|not|or|would|could|might|may|cannot|other)\b|[^.\n]*n't\b)"
            r"[^\n=\d.]{0,120}\b(?:is|are|was|were|has|have|equals)[ \t]+(?:about |approximately |equal to )?"
            r"([¤$€£]?-?\d[\d,]*(?:\.\d+)?(?:[%°]| [^\d\n=.;:]{1,60})?)\.?\s*(?:</s>)?\s*\Z"
        ),
    ),
)
# What some models say when they are done.
_COURTESY = re.compile(
    r"\n\s*(?:I hope (?:this|that|it)|(?:Please )?let me know|Feel free|Is there anything)\b[^\n]*\Z", re.IGNORECASE
)
# Marks of bold type and the quotes around a letter or a word; 2**3 is a power.
_BOLD = re.compile(r"(?<![\w)])\*\*|\*\*(?![\w(])")
_QUOTED = re.compile(r"^[\"“]([^\"“”]{1,40}?)([.,]?)[\"”]([.,]?)(?=\s|$)")
_FIGURES = re.compile(r"\s*([-+$\\]?\d[^\n]{0,30}?)[.]?\s*\Z")
_TAG = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.IGNORECASE | re.DOTALL)
_OPTION_LINE = re.compile(r"(?:^|\n)[ \t]*[(\[]?[A-J][)\].:]")
_CHOICE = re.compile(rf"(?:option |choice )?{_LETTER}(?P<rest>.*)", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<=[^\d\s.])[.!?](?=\s|$)|(?<=\d)[.!?](?=\s|$)|[。！？]|</s>")
# What stands before "the answer is" when nobody claims it.
_SUPPOSED = re.compile(
    r"\bif\b.*\b(?:were|was|had|would)\b|\b(?:might|could|may|would)\s+(?:say|think|guess|answer|believe)\b"
    r"|\b(?:wrong|incorrect|possible|previous|original|initial|student's)\s*$",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(
    r"[.!]\s+(?:but |however, )?(?:that|this|it)(?:'s| is| was) (?:a mistake|wrong|incorrect|not (?:right|correct))\b"
    r"|[.!?,]\s+(?:(?:actually|no),? (?:no|wait|it|that)|wait|hmm|oops|correction|on reflection)\b",
    re.IGNORECASE,
)
_OTHER_CHOICE = re.compile(r"\b(?:or|nor|and|not|neither|either)\b|\?", re.IGNORECASE)
_DENIED = re.compile(r"^\s*(?:not|neither|incorrect|wrong|unclear|cannot|either|missing)\b", re.IGNORECASE)


def find_answer(response: str, *, prompt_opens_think: bool = False) -> Found:
    """Return the answer of a response and where it was found.

    The last complete box counts, or the list that the last boxes form; without one, what the text after the thinking
    calls its answer. A response whose thinking never ends has none.
    """
    text = after_thinking(response, prompt_opens_think=prompt_opens_think)
    if text is None:
        return Found("", "", UNFINISHED)
    text = _COURTESY.sub("", text.rstrip().removesuffix("</s>")).rstrip()
    boxed = boxed_answer(text)
    if boxed is not None:
        return Found(boxed, "boxed")
    tags = _TAG.findall(text[-_TAIL:])
    if tags:
        answer = _tidy(tags[-1])
        return Found(answer, "answer tag") if answer else Found("", "")
    found = _called(text[-_TAIL:]) or _placed(text)
    if found is None:
        return Found("", "")
    name, within, match = found
    if _is_no_assertion(within, match) or (name in ("last line", "last letter", "first line") and _lists_options(text)):
        return Found("", "")
    called = next(group for group in match.groups() if group is not None)
    answer = _tidy(called)
    return Found(answer, name, rest=_said_next(called, answer)) if answer else Found("", "")


def _called(tail: str) -> tuple[str, str, re.Match[str]] | None:
    """Return the last place where a text calls something its answer."""
    places = [(name, tail, found) for name, pattern in _CALLED for found in pattern.finditer(tail)]
    # The end of a match: "Answer: the answer is B" says it once.
    return max(places, key=lambda place: max(place[2].start(g) for g in range(place[2].re.groups + 1)), default=None)


def _placed(text: str) -> tuple[str, str, re.Match[str]] | None:
    for name, pattern in _PLACES:
        within = text if name in ("whole response", "first line") or len(text) <= _TAIL else text[-_TAIL:]
        *_, last = (None, *pattern.finditer(within))
        if last is not None:
            return name, within, last
    return None


def _lists_options(text: str) -> bool:
    """Return whether a text says the options again: two lines that begin with letters."""
    return len(_OPTION_LINE.findall(text)) > 1


def _is_no_assertion(text: str, found: re.Match[str]) -> bool:
    """Return whether the sentence only supposes, reports or denies its answer, or the next one takes it back."""
    begin = found.start() + len(found[0]) - len(found[0].lstrip("\n.*#> \t"))
    before = re.split(r"[.!?]\s|\n", text[max(0, begin - 200) : begin])[-1]
    end = max(found.end(group) for group in range(found.re.groups + 1))
    return bool(_SUPPOSED.search(before)) or bool(_TAKEN_BACK.search(text[begin : end + 60]))


def _tidy(text: str) -> str:
    """Return the answer in the rest of a line: up to the end of its sentence; a letter without its explanation."""
    if _DENIED.match(text):
        return ""
    text = _QUOTED.sub(r"\1\2\3", _BOLD.sub("", text).strip().strip("*`_ \t"))
    ends = _SENTENCE_END.search(text)
    sentence = text[: ends.start()] if ends else text
    choice = _CHOICE.match(text)
    if choice and not _OTHER_CHOICE.search(sentence[choice.end(1) - choice.start() :]):
        rest = choice["rest"].lstrip()
        # "B. Here is why ..." and "A because ..." choose; "A cat" and "I think" do not.
        if not rest or rest[0] in ".,:;)]*—-–" or text[0] in "([" or re.match(r"(?:because|since|as)\b", rest):
            return _letter_with_text(choice, sentence)
    return sentence.strip("*`_ \t")


def _said_next(text: str, answer: str) -> str:
    """Return the sentence that follows a letter which stands alone: "The time is 3:00" of "B. The time is 3:00."."""
    if len(answer) > 1:
        return ""
    rest = text[text.find(answer) + 1 :].lstrip(")].:*, ")
    ends = _SENTENCE_END.search(rest)
    return (rest[: ends.start()] if ends else rest).strip("*_` ")


def _letter_with_text(choice: re.Match[str], sentence: str) -> str:
    """Return "B) 30 cm" as it stands where the text is short, and the letter alone before an explanation."""
    figures = _FIGURES.match(choice["rest"][1:]) if choice["rest"][:1] == "." else None
    if figures:
        return f"{choice[1]}. {figures[1]}"
    return sentence.strip("*`_ \t") if len(sentence) <= 80 and len(sentence) > 3 else choice[1]
