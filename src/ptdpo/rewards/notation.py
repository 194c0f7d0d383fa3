"""One plain spelling for what LaTeX, Unicode and people write in many ways. Texts are short: see ``MAX_ANSWER``."""

import re
import unicodedata

# Brackets of a set, which LaTeX writes \{ \}; bare braces only group.
SET_OPEN, SET_CLOSE = "⦃", "⦄"

_CHARS = str.maketrans(
    {
        **dict.fromkeys("−–—‐‑‒﹣", "-"),
        **dict.fromkeys("×·∙⋅", "*"),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\x00$", None),
        "÷": "/",
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
    (re.compile(r"\\[!,;:]|\\q?quad|\\ |~"), " "),
    (re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree"), "°"),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])"), "/"),
    (re.compile(r"\\pi(?![a-zA-Z])"), " pi "),
    (re.compile(r"\\infty"), "oo"),
    (re.compile(r"\\cup(?![a-zA-Z])"), "U"),
    (re.compile(r"\\leq?(?![a-zA-Z])"), "<="),
    (re.compile(r"\\geq?(?![a-zA-Z])"), ">="),
    (re.compile(r"\\lt(?![a-zA-Z])"), "<"),
    (re.compile(r"\\gt(?![a-zA-Z])"), ">"),
    (re.compile(r"\\angle|∠"), " angle "),
    (re.compile(r"\\([%$#&])"), r"\1"),
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
_SUPERSCRIPT = re.compile(r"([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)")


def plain(answer: str) -> str:
    """Return an answer in lower case and plain characters, spaces single, fractions and roots as arithmetic."""
    text = _SUPERSCRIPT.sub(lambda found: "^" + found[1].translate(_POWERS), answer)
    text = unicodedata.normalize("NFKC", text).translate(_CHARS)
    text = text.replace("\\$", "$").replace("$", "").replace("\\{", SET_OPEN).replace("\\}", SET_CLOSE)
    for pattern, replacement in _COMMANDS:
        text = pattern.sub(replacement, text)
    before = None
    while before != text:
        before = text
        for pattern, replacement in _NESTED:
            text = pattern.sub(replacement, text)
    text = _MIXED.sub(r"\1(\2+\3/\4)", text)
    text = " ".join(text.replace("**", "^").lower().replace("∪", "u").split())
    while len(text) > 1 and text[0] == "{" and text[-1] == "}":
        text = text[1:-1].strip()
    text = text.replace("{", SET_OPEN).replace("}", SET_CLOSE)
    return text if text.endswith("..") else text.rstrip(".").strip()
