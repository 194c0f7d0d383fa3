"""Multiple choice: the letter, several letters, "(B)", "B. 30", the option's text."""

import re
from collections.abc import Sequence

from ptdpo.rewards.brackets import encloses_all
from ptdpo.rewards.kinds import Same
from ptdpo.text.notation import SET_CLOSE, SET_OPEN, plain

_KIND = (
    r"(?:the )?(?:correct |right )?(?:option|choice|answer|figure|picture|image|shape|pattern|letter)s?(?: is)?\s*:?\s*"
)
_ONE = re.compile(rf"(?:{_KIND})?[(\[]?\s*([A-Ja-j])\s*[)\].:]?", re.IGNORECASE)
_LABELLED = re.compile(
    rf"(?:{_KIND})?(?:[(\[]([A-Ja-j])[)\]]|([A-Ja-j])\s*[).:,](?!\s*[A-Ja-j]\b)"
    r"|([A-Ja-j])\s*[).:](?=\s*A\s+(?!and\b|or\b)[A-Za-z]{2}))[.:]?\s*([^,;&\s].*)",
    re.IGNORECASE,
)
# "C (Simple)", "(C), Simple", "Simple (C)", "C, which is Simple": letter and text.
_GLOSSED = (
    re.compile(r"(?P<letter>[A-J])\s*\((?P<text>.+)\)"),
    re.compile(r"[(\[](?P<letter>[A-J])[)\]]\s*,\s*(?![(\[]?[A-J]\b)(?P<text>.+)"),
    re.compile(r"(?P<text>[^()]*[^()A-J\s][^()]*?)\s*\((?P<letter>[A-J])\)"),
    re.compile(r"[(\[]?(?P<letter>[A-J])[)\]]?,? which (?:is|means|shows|represents|says|corresponds to) (?P<text>.+)"),
)
_BECAUSE = re.compile(
    r"([A-J])\s*,?\s+(?:(?:because|since|as)\s+.*|is (?:the )?(?:correct|right)(?: answer| option| choice| one)?)"
    r"|([A-J])\s+\((?=[a-z]{3})(?!.*\b(?:not|wrong|incorrect|or)\b)[^()A-Z]*\)"
)
_NEXT = r"\s*(?:,|;|&|and|\s)\s*[(\[]?(?:and\s+)?[A-J][)\].]?"
_SEVERAL = re.compile(rf"[(\[]?[A-J][)\].]?(?:{_NEXT})+|(?:[(\[][A-J][)\]]){{2,}}")
_LOW_SEVERAL = re.compile(r"[(\[]?[a-j][)\]]?(?:\s*(?:,|;|&|and)\s*[(\[]?[a-j][)\]]?)+")
_RUN = re.compile(r"[A-J]{2,10}")
_DENIED = re.compile(r"\b(?:not|wrong|incorrect|false|neither|except|isn't|instead)\b", re.IGNORECASE)
# What may turn the meaning of an option's text round, or add to it.
_ADDED = re.compile(
    r"\b(?:not|no|never|neither|nor|or|and|but|except|without|wrong|incorrect|false|isn't|aren't|doesn't|don't|un\w+)\b",
    re.IGNORECASE,
)
_QUESTION_OPTION = re.compile(r"(?:^|[\s;,])(?:\(([A-Ja-j])\)|([A-J])(?:[)．、]|[.:](?=\s))|([a-j])[)．、])\s*")
_LAST = 10


def read_options(question: str) -> tuple[str, ...]:
    """Return the texts of the options that a question lists as "(A) ...", "A. ...", "a)", "A、", in order; or none.

    For grading; the rules for hints read options by ``hints.rules.answers.options_by_letter``, which is stricter.
    """
    marks = list(_QUESTION_OPTION.finditer(question))
    # The last run A, B, C ...: earlier letters belong to the question.
    names = [mark[1] or mark[2] or mark[3] for mark in marks]
    starts = [index for index, name in enumerate(names) if name in "Aa"]
    if not starts:
        return ()
    run, first = marks[starts[-1] :], names[starts[-1]]
    names = names[starts[-1] :]
    length = next((i for i, name in enumerate(names) if name != chr(ord(first) + i)), len(run))
    if length < 2:
        return ()
    ends = [mark.start() for mark in run[1:length]] + [len(question)]
    # The last option ends with its line.
    texts = [question[mark.end() : end] for mark, end in zip(run, ends, strict=False)]
    return tuple(text.strip().split("\n")[0].strip().rstrip(";,") for text in texts)


def match_choice(given: str, expected: str, options: Sequence[str], same: Same) -> bool | None:
    """Return whether two plain answers choose the same; ``None`` if this is no matter of letters.

    ``same`` compares an option's text with an answer.
    """
    several = letters_of(expected, loosely=bool(options))
    if several:
        return several == _given_letters(given, is_choice=bool(options))
    letter, text = split_label(expected, bool(options))
    if not letter:
        return _by_text(given, expected, options, same)
    if _misnamed(options):
        return False
    known = options[_index(letter)] if _index(letter) < len(options) else ""
    if text and known and not same(text, known):
        # The answer contradicts the question: no response can be told right.
        return False
    text = text or known
    given_letter, given_text = split_label(given, bool(options))
    if letters_of(given, loosely=True):
        return False
    if given_letter:
        if letter not in (given_letter, given_letter.upper()):
            return False
        # "B. 40" where B is 30 chooses nothing.
        return not (given_text and text) or same(given_text, text) or _restates(given_text, letter, options)
    return _names_only(given, text, options, same)


def split_label(answer: str, is_choice: bool) -> tuple[str, str]:
    """Return letter and text of "B", "(B)", "B. 30", "Option B", "Simple (B)"; two empty texts for anything else."""
    one = _ONE.fullmatch(answer)
    if one:
        low = answer in "abcdefghij" and not is_choice
        return (one[1] if low else one[1].upper()), ""
    # Of a choice the text is compared: "B. False" is right where B is False, and "B. wrong" where B is 30 is not.
    denied = not is_choice and (_DENIED.search(answer) or re.search(r"\bor\b", answer))
    labelled = None if denied else _LABELLED.fullmatch(answer)
    if labelled:
        letter = labelled[1] or labelled[2] or labelled[3]
        return letter.upper(), re.sub(r",?\s+(?:because|since|as)\s.*", "", labelled[4])
    for pattern in _GLOSSED if is_choice else ():
        glossed = pattern.fullmatch(answer)
        if glossed and encloses_all(f"({glossed['text']})"):
            return glossed["letter"], glossed["text"].strip()
    because = _BECAUSE.fullmatch(answer)
    return ((because[1] or because[2]), "") if because else ("", "")


def letters_of(answer: str, *, loosely: bool = False) -> frozenset[str]:
    """Return the letters of "A, C", "(A)(C)", "A and C", "AC", loosely also "a, c", "{A, C}"; none of anything else."""
    answer = (
        re.sub(rf"^{_KIND}", "", answer, flags=re.IGNORECASE) if re.match(r"[a-z]|[A-Z][a-z]{2}", answer) else answer
    )
    answer = re.sub(r"^[Bb]oth\s+(?=\W?[A-J]\W?\s+and\s)", "", answer)
    if loosely and answer[:1] == SET_OPEN and answer[-1:] == SET_CLOSE:
        answer = answer[1:-1].strip()
    if _RUN.fullmatch(answer):
        # In order and without repeats: BD, not BED or AA.
        return frozenset(answer) if sorted(set(answer)) == list(answer) else frozenset()
    if _SEVERAL.fullmatch(answer) or (loosely and _LOW_SEVERAL.fullmatch(answer)):
        letters = re.findall(r"(?<![A-Za-z])[A-Ja-j](?![A-Za-z])", answer)
        return frozenset(letter.upper() for letter in letters) if len(set(letters)) == len(letters) else frozenset()
    return frozenset()


def _given_letters(answer: str, *, is_choice: bool) -> frozenset[str]:
    """Return the letters of an answer where several are expected: also "A/C", and of a choice "CA"."""
    if is_choice and _RUN.fullmatch(answer):
        # Without options, CBA may be an angle or an order, and ABC another.
        answer = "".join(sorted(answer))
    return letters_of(re.sub(r"(?<=[A-J])\s*/\s*(?=[A-J])", ", ", answer), loosely=True)


def contradiction(answer: str, options: Sequence[str], same: Same) -> str:
    """Say what is wrong with a choice's answer and options; "" if nothing is."""
    expected, texts = plain(answer), [plain(option) for option in options]
    letter, text = split_label(expected, bool(options))
    if not options:
        return ""
    for number, one in enumerate(texts):
        twin = next((other for other in range(number) if same(one, texts[other]) or same(texts[other], one)), None)
        if twin is not None:
            return f"options {chr(ord('A') + twin)} and {chr(ord('A') + number)} cannot be told apart"
    if letter and _misnamed(texts):
        return "the options' texts are letters of other options"
    if letter and _index(letter) >= len(texts):
        return f"the answer is {letter}, and there are {len(texts)} options"
    if letter and text and not same(text, texts[_index(letter)]):
        return f"the answer is {answer!r}, and option {letter} is {options[_index(letter)]!r}"
    return ""


def _by_text(given: str, expected: str, options: Sequence[str], same: Same) -> bool | None:
    """Compare where the expected answer is an option's text, or no choice at all."""
    letter, text = split_label(given, bool(options))
    if not letter or (len(expected) == 1 and not options):
        return None
    if not options:
        return same(text, expected) if text else None
    known = options[_index(letter)] if _index(letter) < len(options) else ""
    if not known or (text and not same(text, known)):
        return same(given, expected)
    return _names_only(known, expected, options, same)


def _names_only(given: str, text: str, options: Sequence[str], same: Same) -> bool:
    """Return whether an answer is that option's text and no other's."""
    if not text or not same(given, text):
        return False
    exact = [option for option in options if option == given]
    return len(exact) == 1 or sum(same(given, option) for option in options) <= 1


def _restates(text: str, letter: str, options: Sequence[str]) -> bool:
    """Return whether a letter's text says its option in more words, and no other option: "twelve o'clock"."""
    if _index(letter) >= len(options) or _ADDED.search(text):
        return False
    said, (known, *others) = _stems(text), [_stems(option) for option in _own_first(options, _index(letter))]
    if not re.search(r"[A-Za-z]{2}", known) or re.findall(r"\d+", said) != re.findall(r"\d+", known):
        return False
    return known in said and not any(other in said and other not in known for other in others)


def _own_first(options: Sequence[str], own: int) -> list[str]:
    return [options[own], *options[:own], *options[own + 1 :]]


def _stems(text: str) -> str:
    """Return the words of a text in lower case between spaces, plurals as singulars."""
    words = [word for word in re.findall(r"[^\W_]+", text.lower()) if word not in ("the", "a", "an")]
    return f" {' '.join(re.sub(r'(?<=[a-z]{3})e?s$', '', word) for word in words)} "


def _misnamed(options: Sequence[str]) -> bool:
    """Return whether an option's text is the letter of another: then no letter says which is meant."""
    named = [_ONE.fullmatch(option) for option in options]
    return any(found and _index(found[1]) != number for number, found in enumerate(named))


def _index(letter: str) -> int:
    return ord(letter.upper()) - ord("A")
