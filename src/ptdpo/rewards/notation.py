"""One plain spelling for what LaTeX, Unicode and people write in many ways. Texts are short: see ``MAX_ANSWER``."""

import re
import unicodedata

# Brackets of a set, which LaTeX writes \{ \}; bare braces only group.
SET_OPEN, SET_CLOSE = "⦃", "⦄"
# The currency; a bare dollar sign opens mathematics.
DOLLAR = "¤"
EMPTY_SET = "∅"

_CHARS = str.maketrans(
    {
        **dict.fromkeys("−–—‐‑‒﹣", "-"),
        **dict.fromkeys("×·∙⋅", "*"),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\x00", None),
        "÷": "/",
        "⁄": "/",
        "≈": "~",
        "π": "pi",
        "∞": "oo",
        "∪": "U",
        "≤": "<=",
        "≥": ">=",
        "∶": ":",
        "“": '"',
        "”": '"',
        "’": "'",
    }
)
_POWERS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_COMMANDS = (
    (re.compile(r"\\[dtc]frac"), r"\\frac"),
    (re.compile(r"\\(?:left|right|displaystyle|bigl?|bigr|Bigl?|Bigr)(?![a-zA-Z])"), ""),
    (re.compile(r"\\approx(?![a-zA-Z])"), "≈"),
    (re.compile(r"\\[!,;:]|\\q?quad|\\ |~|\\$"), " "),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree"), "°"),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])"), "/"),
    (re.compile(r"\\pi(?![a-zA-Z])"), " pi "),
    (re.compile(r"\\infty"), "oo"),
    (re.compile(r"\\cup(?![a-zA-Z])"), "U"),
    (re.compile(r"\\leq?(?:slant)?(?![a-zA-Z])"), "<="),
    (re.compile(r"\\geq?(?:slant)?(?![a-zA-Z])"), ">="),
    (re.compile(r"\\pm(?![a-zA-Z])"), "±"),
    (re.compile(r"\\(?:emptyset|varnothing)(?![a-zA-Z])"), EMPTY_SET),
    (re.compile(r"\\lt(?![a-zA-Z])"), "<"),
    (re.compile(r"\\gt(?![a-zA-Z])"), ">"),
    (re.compile(r"\\angle|∠"), " angle "),
    (re.compile(r"\\([%#&])"), r"\1"),
    (re.compile(r"\\([()\[\]])"), ""),
    (re.compile(r"\\frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\sqrt\s*(\w)"), r"\\sqrt{\1}"),
    (re.compile(r"√\s*(\d+|\w)"), r"\\sqrt{\1}"),
    (re.compile(r"√\s*\("), r"sqrt("),
)
# Innermost first, until nothing changes.
_NESTED = (
    (
        re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname|boxed)\s*\{([^{}]*)\}"),
        r" \1 ",
    ),
    (re.compile(r"(\d)\s*\\frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}"), r"(\1+(\2)/(\3))"),
    (re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\\sqrt\s*\[(\d)\]\s*\{([^{}]*)\}"), r"((\2)^(1/\1))"),
    (re.compile(r"\\sqrt\s*\{([^{}]*)\}"), r"sqrt(\1)"),
    (re.compile(r"\^\s*\{([^{}]*)\}"), r"^(\1)"),
    (re.compile(r"_\s*\{([^{}]*)\}"), r"_\1"),
)
_MIXED = re.compile(r"(?<![\d./])(-?)(\d+) +(\d+)/(\d+)(?![\d.])")
_TIGHT = re.compile(r"\s*([\^_])\s*")
_GROUPED = re.compile(r"(?<![\d.])\d{1,3}(?: \d{3})+(?!\d)")
_DIGIT_GAP = re.compile(r"(?<=\d) (?=\d)")
_VULGAR = re.compile(r"[¼-¾⅐-⅞]")
# What closes or decorates an answer and is no part of it.
_EDGES = re.compile(r"^(?:\*\*|__|`)+|(?:\*\*|__|`)+$|(?<!\.)\.$|,$")
_SUPERSCRIPT = re.compile(r"([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)")


def plain(answer: str) -> str:
    """Return an answer in lower case and plain characters, spaces single, fractions and roots as arithmetic."""
    text = _SUPERSCRIPT.sub(lambda found: "^" + found[1].translate(_POWERS), answer)
    text = _VULGAR.sub(lambda found: " " + unicodedata.normalize("NFKC", found[0]), text)
    # Circled digits and the like are labels, not numbers.
    text = "".join(c if unicodedata.category(c) == "No" else unicodedata.normalize("NFKC", c) for c in text)
    text = text.strip().replace("\\$", DOLLAR).replace("\\{", SET_OPEN).replace("\\}", SET_CLOSE)
    if text.count("$") == 1 and text[0] == "$":
        text = text.replace("$", DOLLAR)
    text = text.replace("$", "").translate(_CHARS)
    for pattern, replacement in _COMMANDS:
        text = pattern.sub(replacement, text)
    before = None
    while before != text:
        before = text
        for pattern, replacement in _NESTED:
            text = pattern.sub(replacement, text)
    text = _MIXED.sub(r"\1(\2+\3/\4)", text)
    text = _edges_off(" ".join(text.lower().split())).replace("**", "^")
    text = _TIGHT.sub(r"\1", text).replace("+oo", "oo")
    while len(text) > 1 and text[0] == "{" and text[-1] == "}":
        text = text[1:-1].strip()
    text = text.replace("{", SET_OPEN).replace("}", SET_CLOSE)
    return _edges_off(text.replace(SET_OPEN + SET_CLOSE, EMPTY_SET))


def without_spaces(text: str) -> str:
    """Return a plain answer without the spaces that mean nothing; those between digits do, unless they group them."""
    return _DIGIT_GAP.sub("_", _GROUPED.sub(lambda found: found[0].replace(" ", ""), text)).replace(" ", "")


def _edges_off(text: str) -> str:
    before = None
    while before != text:
        before, text = text, _EDGES.sub("", text).strip()
    return text
