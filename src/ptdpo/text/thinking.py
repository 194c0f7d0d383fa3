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
    _, closed, said = _parted(response)
    return None if OPEN in said or (prompt_opens_think and not closed) else said


def last_said(response: str) -> str:
    """Return what follows the last thinking that ends; all of a response in which none does."""
    return _parted(response)[2].strip()


def _parted(response: str) -> tuple[str, str, str]:
    return response.replace(_LONG_OPEN, OPEN).replace(_LONG_CLOSE, CLOSE).rpartition(CLOSE)
