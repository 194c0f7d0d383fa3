"""Find the final answer and the thinking in a response. Linear in its length."""

import re

# A brace, or an escaped character, which is none.
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BOX = "\\boxed"
_OPEN, _CLOSE = "<think>", "</think>"


def last_boxed(text: str) -> str | None:
    """Return the content of the last complete ``\\boxed{...}``, nested braces included, or ``None``.

    An unclosed box does not count: the one before it does.
    """
    closing = _closing_braces(text)
    start = text.rfind(_BOX)
    while start != -1:
        brace = start + len(_BOX)
        while brace < len(text) and text[brace].isspace():
            brace += 1
        if brace in closing:
            return text[brace + 1 : closing[brace]].strip()
        start = text.rfind(_BOX, 0, start)
    return None


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


def follows_format(response: str, *, prompt_opens_think: bool = False) -> bool:
    """Return whether a response thinks once inside <think> </think> and boxes an answer after it.

    Args:
        response: the response as decoded.
        prompt_opens_think: the prompt ends with <think>, as thinking templates do: then the response must not
            open it again. Responses that open it themselves are accepted in either case if they begin with it.
    """
    text = response.strip()
    if text.startswith(_OPEN):
        text = text[len(_OPEN) :]
    elif not prompt_opens_think:
        return False
    thinking, closed, rest = text.partition(_CLOSE)
    if not closed or _OPEN in thinking or _OPEN in rest or _CLOSE in rest:
        return False
    return bool(thinking.strip()) and last_boxed(rest) is not None
