"""Where a response stops thinking: one reader for grading, for hints, and for what a teacher is shown."""

OPEN, CLOSE = "<think>", "</think>"
# Some models say "thinking".
_LONG_OPEN, _LONG_CLOSE = "<thinking>", "</thinking>"


def after_thinking(response: str, *, prompt_opens_think: bool = False) -> str | None:
    """Return what follows the thinking; all of it without thinking; ``None`` if the thinking never ends.

    Args:
        response: as decoded.
        prompt_opens_think: the prompt ends with <think>: a response that never closes it has not stopped.
    """
    response = response.replace(_LONG_OPEN, OPEN).replace(_LONG_CLOSE, CLOSE)
    closed = response.rfind(CLOSE)
    if response.rfind(OPEN) > closed or (prompt_opens_think and closed == -1):
        return None
    return response[closed + len(CLOSE) :] if closed != -1 else response
