"""One plain spelling for what LaTeX, Unicode and people write in many ways; case is kept. Texts are short."""

import re
import unicodedata

# Brackets of a set, which LaTeX writes \{ \}; bare braces only group.
SET_OPEN, SET_CLOSE = "⦃", "⦄"
# A matrix; rows end with ⏎, entries with &. A determinant has brackets of its own.
MATRIX_OPEN, MATRIX_CLOSE, DETERMINANT_OPEN, DETERMINANT_CLOSE, ROW_END = "⟦", "⟧", "⟪", "⟫", "⏎"
# The currency; a bare dollar sign opens mathematics.
DOLLAR = "¤"
# A space that means something.
GAP = "␣"
EMPTY_SET, INFINITY, UNION, MEMBER = "∅", "∞", "∪", "∈"

GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "varepsilon": "ε", "zeta": "ζ", "eta": "η",
    "theta": "θ", "vartheta": "θ", "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π",
    "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ", "varphi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω",
    "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ", "Phi": "Φ",
    "Psi": "Ψ", "Omega": "Ω", "Ohm": "Ω", "ohm": "Ω",
}  # fmt: skip
FUNCTIONS = (
    "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "lg",
    "exp", "sqrt",
)  # fmt: skip
COMMAND_SIGNS = {
    **GREEK,
    **dict.fromkeys(("times", "cdot", "ast", "cdotp"), "*"), "div": "/", "pm": "±", "mp": "∓", "infty": INFINITY,
    **dict.fromkeys(("le", "leq", "leqslant"), "≤"), **dict.fromkeys(("ge", "geq", "geqslant"), "≥"),
    "lt": "<", "gt": ">",
    **dict.fromkeys(("ne", "neq"), "≠"), "approx": "≈", "sim": "~", "in": MEMBER, "cup": UNION, "cap": "∩",
    **dict.fromkeys(("emptyset", "varnothing"), EMPTY_SET), **dict.fromkeys(("mid", "vert", "lvert", "rvert"), "|"),
    **dict.fromkeys(("rightarrow", "to", "longrightarrow"), "→"),
    **dict.fromkeys(("leftarrow", "gets", "longleftarrow"), "←"),
    "Rightarrow": "⇒", "Leftarrow": "⇐", "leftrightarrow": "↔", "rightleftharpoons": "⇌", "uparrow": "↑",
    "downarrow": "↓", "angle": "∠", "measuredangle": "∠", "triangle": "△", "parallel": "∥", "perp": "⊥",
    "degree": "°", "colon": ":", "ldots": "…", "cdots": "…", "dots": "…", "langle": "(", "rangle": ")", "prime": "'",
    "lbrace": SET_OPEN, "rbrace": SET_CLOSE, "wedge": " and ", "land": " and ", "lor": " or ", "vee": " or ",
}  # fmt: skip
_NOTHING = (
    "left",
    "right",
    "displaystyle",
    "big",
    "bigl",
    "bigr",
    "Big",
    "Bigl",
    "Bigr",
    "bigg",
    "biggl",
    "biggr",
    "rm",
    "bf",
    "limits",
)
_WRAPPERS = (
    "text|textnormal|textbf|textit|textrm|mathrm|mathbf|mathit|mathbb|mathsf|boldsymbol|bm|mbox|operatorname|boxed|fbox|ce|overrightarrow|"
    "vec|overline|bar|hat"
)
# What changes the meaning keeps a mark in front.
_MARKED = {"overline": "‾", "bar": "‾", "hat": "ˆ", "vec": "⃗", "overrightarrow": "⃗"}
_CHARS = str.maketrans(
    {
        **dict.fromkeys("−–—‐‑‒﹣－", "-"), **dict.fromkeys("×·∙⋅✕", "*"),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\x00", None), "÷": "/", "⁄": "/", "∕": "/", "∶": ":", "：": ":",
        "“": '"', "”": '"', "’": "'", "′": "'", "º": "°", "˚": "°", "℃": "°C", "℉": "°F", "〈": "(", "〉": ")",
        "⟶": "→",
        "⟨": "(", "⟩": ")", "⩽": "≤", "⩾": "≥", "，": ",", "；": ";", "。": ".", "、": ",", "（": "(", "）": ")",
        "Ω": "Ω",
        "ϕ": "φ", "∧": " and ", "∨": " or ", "µ": "μ", "＝": "=", "～": "~", "＞": ">", "＜": "<",
    }
)  # fmt: skip
_UP, _DOWN = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "₀₁₂₃₄₅₆₇₈₉"
_POWERS = str.maketrans(_UP, "0123456789-+n")
_INDICES = str.maketrans(_DOWN, "0123456789")
_SUPERSCRIPT, _SUBSCRIPT = re.compile(f"[{_UP}]+"), re.compile(f"[{_DOWN}]+")
_VULGAR = re.compile(r"[¼-¾⅐-⅞]")
_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{([bBpvV]?matrix|smallmatrix|array)\}(?:\s*\{[clr|\s]*\})?")
_ROW = re.compile(r"\\\\(?:\[[^\]]*\])?")
_BARE_SET = re.compile(r"\{(?!\d{1,3}(?:,\d{3})+\})[^{}]*,[^{}]*\}")
_GROUPED_BRACKETS = re.compile(r"\{\s*[A-Z]?[(\[][^()\[\]{}]*[)\]]\s*\}|\{\s*⦃[^{}⦃⦄]*⦄\s*\}")
_SPACES = re.compile(r"\\[!,;: ]|\\q?quad|(?<!\\)~(?:(?<!\d~)|(?!\d))|\\hspace\{[^}]*\}|\\(?:h|v)?phantom\{[^}]*\}")
_BEFORE_BRACE = re.compile(rf"(\\(?:[dtc]?frac|sqrt|{_WRAPPERS}))\s+\{{")
_RECURRING = re.compile(r"(?<![\d.])(\d{1,9})\.(\d{0,9})\\(?:overline|bar|dot)\{(\d{1,9})\}(?!\d)")
_DEGREES = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-zA-Z]))")
# The comma of 35{,}000, not the one of \text{,}.
_COMMA = re.compile(r"(?<![a-zA-Z])\{,\}")
_PERCENT = re.compile(r"\\([%#&_])")
_WRAPPER = re.compile(rf"\\({_WRAPPERS})\s*\{{([^{{}}]*)\}}")
_SHORT_FRACTION = re.compile(
    r"\\[dtc]?frac\s*(\d|[a-zA-Z](?![a-zA-Z])|\{[^{}]*\})\s*(\d|[a-zA-Z](?![a-zA-Z])|\{[^{}]*\})"
)
_SHORT_ROOT = re.compile(r"(?:\\sqrt|√)\s*(\d+(?=√)|\d(?!\d)|[a-zA-Z](?![a-zA-Z])|[α-ω])")
_UNICODE_ROOT = re.compile(r"√\s*(\d+(?:\.\d+)?)")
# Innermost first, until nothing changes.
_NESTED = (
    (re.compile(r"(?<![\d.^_])(\d+)\s*\\frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}"), "mixed"),
    (re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"((\1)/(\2))"),
    # \frac{\sqrt{3}}2, and the plain TeX {3 \over 8}.
    (re.compile(r"\\frac\s*\{([^{}]*)\}\s*(\d|[a-zA-Z](?![a-zA-Z]))"), r"((\1)/(\2))"),
    (re.compile(r"\\frac\s*(\d)\s*\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\{([^{}]*)\\over(?![a-zA-Z])([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\\sqrt\s*\[([^\[\]{}]*)\]\s*\{([^{}]*)\}"), r" root(\1)(\2)"),
    (re.compile(r"(?:\\sqrt|√)\s*\{([^{}]*)\}"), r" sqrt(\1)"),
    (re.compile(r"\^\s*\{([^{}]*)\}"), r"^(\1)"),
    (re.compile(r"_\s*\{\s*(\w)\s*\}(?!\d)"), r"_\1"),
    (re.compile(r"_\s*\{([^{}]*)\}"), r"_(\1)"),
    # The braces of {A} and of \sin{6}, not those of a command that is still to be read.
    (re.compile(r"(?<![a-zA-Z\]\}])\{((?:(?!\\over(?![a-zA-Z]))[^{}])*)\}"), r"\1"),
    (re.compile(r"(\\(?:sin|cos|tan|cot|sec|csc|log|ln|lg|exp|arcsin|arccos|arctan))\s*\{([^{}]*)\}"), r"\1(\2)"),
)  # fmt: skip
_MIXED = re.compile(r"(?<![\d./^_,:])(\d+)\s+(?:\(\((\d+)\)/\((\d+)\)\)|(\d+)\s*/\s*(\d+))(?![\d./])")
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_FUNCTION = re.compile(rf"(?<![a-zA-Z\\])\\?({'|'.join(FUNCTIONS)}|root)(?![a-zA-Z])")
_SIMPLE_POWER = re.compile(r"\^\(([+-]?\d+|[a-zA-Z])\)")
_TIGHT = re.compile(r"\s*([\^_])\s*")
# What closes or decorates an answer and is no part of it.
_EDGES = re.compile(r"^(?:\*\*|__|`|#+ )+|(?:\*\*|__|`)+$|(?<!\.)[.]$|(?<=[ap]\.m\.)[.]$|[,;:\\]$|^:")
_CYRILLIC = str.maketrans("АВСЕНКМОРТХасеорху", "ABCEHKMOPTXaceopxy")


def plain(answer: str) -> str:
    """Return an answer in plain characters, spaces single, fractions, roots and powers as arithmetic."""
    text = _edges_off(_characters(answer))
    if "\\begin" in text:
        text = _ENVIRONMENT.sub(_matrix_bracket, _ROW.sub(ROW_END, text))
    text = text.replace("\\(", "").replace("\\)", "").replace("\\[", "").replace("\\]", "").replace("\\\\", " ")
    if "\\" in text or "{" in text or "~" in text or "√" in text:
        text = _latex(text)
    text = re.sub(r"(?<=\d)\s*--\s*(?=\d)", "-", text)
    text = re.sub(r"<=|=<", "≤", text).replace(">=", "≥").replace("!=", "≠").replace("->", "→")
    text = _FUNCTION.sub(lambda found: f" \\{found[1]}", text).replace("**", "^")
    text = re.sub(r"(?<=\d)\s*[xX]\s*(?=10\s*\^)", "*", text)
    text = _MIXED.sub(_mixed_number, text)
    text = text.replace("{", SET_OPEN).replace("}", SET_CLOSE).replace(SET_OPEN + SET_CLOSE, EMPTY_SET)
    text = _SIMPLE_POWER.sub(r"^\1", _TIGHT.sub(r"\1", " ".join(text.split())))
    text = re.sub(r"(?<![a-zA-Z])(?:pi|PI)(?![a-zA-Z])", "π", text)
    text = re.sub(r"(?<=\d)pi(?![a-zA-Z])", "π", text)
    text = re.sub(r"(?<=\d)\*(?=°)", "", text)
    # A raised o stands for the sign of degrees.
    text = re.sub(r"(?<=\d)\^\(?o\)?(?![a-zA-Z])", "°", text)
    text = re.sub(rf"\+?(?:{INFINITY}|\binfinity\b|\boo\b)", INFINITY, text)
    return _edges_off(text)


def squeezed(text: str) -> str:
    """Return a plain answer without the spaces that mean nothing: those between letters or digits do."""
    return re.sub(r"(?<=\w) (?=\w)", GAP, _GROUPED.sub(lambda found: found[0].replace(" ", ""), text)).replace(" ", "")


_GROUPED = re.compile(r"(?<![\d.])\d{1,3}(?: \d{3})+(?!\d)")


def _characters(answer: str) -> str:
    text = _SUPERSCRIPT.sub(lambda found: "^{" + found[0].translate(_POWERS) + "}", answer.strip())
    text = _SUBSCRIPT.sub(lambda found: "_{" + found[0].translate(_INDICES) + "}", text)
    text = _plain_characters(text).replace("\\$", DOLLAR).replace("\\{", SET_OPEN).replace("\\}", SET_CLOSE)
    if text.count("$") == 1 and re.match(r"[+-]?\$\s*[\d.]", text):
        text = text.replace("$", DOLLAR)
    if re.fullmatch(rf"{DOLLAR}[^{DOLLAR}]+{DOLLAR}", text):
        # Escaped dollars around mathematics.
        text = text[1:-1]
    if not text.isascii() and len(text) <= 8:
        text = text.translate(_CYRILLIC)
    text = re.sub(r"^(.{0,40})``([^`']*)''", r'\1"\2"', text).replace("$", " ")
    text = _COMMA.sub(",", text).strip()
    if _GROUPED_BRACKETS.fullmatch(text):
        # A point or an interval once more in braces that group.
        return text[1:-1].strip()
    # A set in bare braces, as people write it; braces around anything else only group.
    return SET_OPEN + text[1:-1] + SET_CLOSE if _BARE_SET.fullmatch(text) else text


def signs(text: str) -> str:
    """Return running text in plain characters; powers as ^2, indices behind their letter."""
    text = _SUPERSCRIPT.sub(lambda found: "^" + found[0].translate(_POWERS), text)
    return _plain_characters(_SUBSCRIPT.sub(lambda found: found[0].translate(_INDICES), text))


def _plain_characters(text: str) -> str:
    if not text.isascii():
        text = _VULGAR.sub(lambda found: " " + unicodedata.normalize("NFKC", found[0]) + " ", text).translate(_CHARS)
        # Circled digits and the like are labels, not numbers.
        text = "".join(c if unicodedata.category(c) == "No" else unicodedata.normalize("NFKC", c) for c in text)
    return text.translate(_CHARS)


def latex_sugar_off(text: str) -> str:
    r"""Return LaTeX without what only spaces, sizes or wraps; \frac12 and \dfrac as \frac{1}{2}, \sqrt2 as \sqrt{2}."""
    if "\\" not in text and "{" not in text and "√" not in text:
        return text
    text = _without_sizes(text)
    before = None
    while before != text:
        before, text = text, _WRAPPER.sub(r"\2", text)
    return _SIMPLE_POWER.sub(r"^\1", re.sub(r"\^\s*\{([^{}]*)\}", r"^(\1)", text))


def _without_sizes(text: str) -> str:
    text = _DEGREES.sub("°", _SPACES.sub(" ", text.replace("\\!", "")))
    text = _BEFORE_BRACE.sub(r"\1{", re.sub(r"\}\s+\{", "}{", text))
    text = _RECURRING.sub(_as_fraction, _COMMA.sub(",", _PERCENT.sub(r"\1", text)))
    text = re.sub(r"\\text\{\s*-{1,3}\s*\}", "-", text)
    text = re.sub(rf"\\(?:{'|'.join(_NOTHING)})(?![a-zA-Z])\.?", "", text)
    text = _UNICODE_ROOT.sub(r"\\sqrt{\1}", _SHORT_ROOT.sub(r"\\sqrt{\1}", text))
    text = re.sub(r"√\s*\(", r" sqrt(", text)
    return re.sub(r"\\[dtc]frac", r"\\frac", _SHORT_FRACTION.sub(_full_fraction, text))


def _latex(text: str) -> str:
    text = _without_sizes(text)
    before = None
    while before != text:
        before = text
        text = _WRAPPER.sub(lambda found: f" {_MARKED.get(found[1], '')}{found[2].strip(' ')} ", text)
        for pattern, replacement in _NESTED:
            text = pattern.sub(_mixed_number if replacement == "mixed" else replacement, text)
    return _COMMAND.sub(_sign, text)


def _sign(found: re.Match[str]) -> str:
    name = found[1]
    if name in FUNCTIONS:
        return f" \\{name} "
    sign = COMMAND_SIGNS.get(name)
    return found[0] if sign is None else sign


def _full_fraction(found: re.Match[str]) -> str:
    top, bottom = (part if part[0] == "{" else "{" + part + "}" for part in (found[1], found[2]))
    return f"\\frac{top}{bottom}"


def _as_fraction(found: re.Match[str]) -> str:
    """Return a recurring decimal as a fraction: 0.1666... is 15/90."""
    whole, once, again = found.groups()
    parts = 10 ** len(once) * (10 ** len(again) - 1)
    return f"(({int(whole + once + again) - int(whole + once)})/({parts}))"


def _mixed_number(found: re.Match[str]) -> str:
    whole, top, bottom = (group for group in found.groups() if group is not None)
    return f"({whole}+{top}/{bottom})" if int(top[:12]) < int(bottom[:12]) else found[0].replace("\\frac", "\\fraction")


def _matrix_bracket(found: re.Match[str]) -> str:
    determinant = found[2][0] in "vV"
    if found[1] == "begin":
        return DETERMINANT_OPEN if determinant else MATRIX_OPEN
    return DETERMINANT_CLOSE if determinant else MATRIX_CLOSE


def _edges_off(text: str) -> str:
    before = None
    while before != text:
        before, text = text, _EDGES.sub("", text).strip()
    return text
