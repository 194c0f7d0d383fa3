"""Does a worked solution show that its writer was given the answer?"""

import re

from ptdpo.text import MAX_ANSWER

_ANSWER = r"(?:answer|solution|result)\b(?!\s+(?:choices?|options?|types?|formats?|boxes))"
_CERTAIN = "known|verified|reference|expected|target|official|supplied|provided|given|stated|ground[- ]?truth"
_MARKS = (
    rf"\b(?:{_CERTAIN})\s+(?:final\s+|correct\s+|right\s+)?{_ANSWER}",
    r"\bground[- ]?truth\b",
    r"\banswer\s+(?:is|was|has\s+been|have\s+been|being)\s+(?:already\s+)?"
    r"(?:given|provided|known|supplied|told|stated)\b(?!\s+by)",
    r"\b(?:told|informed|know|knew|knowing|given)\s+(?:me\s+|us\s+)?(?:that\s+)?the\s+"
    r"(?:final\s+|correct\s+|right\s+|true\s+|actual\s+)?answer\b(?!\s+(?:choices|options))",
    r"\b(?:match(?:es|ing)?|agree(?:s|ing)?\s+with|consistent\s+with|align(?:s|ing)?\s+with|confirm(?:s|ing)?)\s+"
    rf"(?:with\s+)?the\s+{_ANSWER}",
    r"\b(?:work|working|reason|reasoning|go|going)\s+back(?:wards?)?\s+from\b",
    r"\breverse[- ]?engineer",
    r"\bback[- ]?construct",
    r"\bas\s+(?:if|though)\s+(?:i|we)\s+(?:did\s*n[o']t|do\s*n[o']t|did\s+not|do\s+not)\s+know\b",
    r"\bwithout\s+(?:revealing|mentioning|using|showing|admitting)\b[^.]{0,40}\banswer\b",
    r"\bpretend",
    r"\b(?:the|this)\s+(?:system\s+)?prompt\b",
    r"\bthe\s+(?:user|instructions?)\s+(?:has\s+|have\s+)?(?:given|gave|gives?|provided|provides?|told|tells?|said|says?|wants?|asks?)\b",
    r"\b(?:the|this|your)\s+note\s+(?:says|said|gives|gave|states|stated|mentions|tells)\b",
)
_PATTERN = re.compile("|".join(f"(?:{mark})" for mark in _MARKS), re.IGNORECASE)
_FIRST_SENTENCE = re.compile(r"\s*(?:<think>)?\s*(.{0,400}?)(?:[.!?](?:\s|$)|</think>|\n|$)", re.DOTALL)


def shows_given_answer(response: str, answer: str) -> str | None:
    """Return the words that show it, or ``None`` if nothing does.

    Looked for: phrases that only someone with the answer in hand writes, and a first sentence that states it.
    """
    found = _PATTERN.search(response)
    if found:
        return " ".join(found[0].split())
    first = _FIRST_SENTENCE.match(response)
    opening = first[1] if first else ""
    if len(answer) <= MAX_ANSWER and re.search(r"\b(?:answer|boxed|result)\b", opening, re.IGNORECASE):
        stated = re.search(rf"(?<!\w){re.escape(answer.strip())}(?!\w)", opening, re.IGNORECASE)
        return " ".join(opening.split()) if stated else None
    return None
