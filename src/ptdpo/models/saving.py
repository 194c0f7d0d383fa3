"""Saving weights on a disk that may be full: one error that names the place, whatever the libraries raise."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

# How torch's writer of archives tells that less was written than given; it does not say why.
_CUT = ("PytorchStreamWriter", "enforce fail")
WRITING_ERRORS = (OSError, RuntimeError, SafetensorError)


def reason_not_written(error: BaseException) -> str | None:
    """Return why a file could not be written, in one line; ``None`` if an error is about something else."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    if isinstance(error, OSError):
        return text
    if isinstance(error, RuntimeError):
        return f"only a part could be written: is the disk full? {text}" if any(w in text for w in _CUT) else None
    return text if isinstance(error, SafetensorError) and "I/O error" in text else None


@contextmanager
def saving(folder: str | Path) -> Iterator[None]:
    """Name the folder into which the block saves, where a library does not.

    Raises:
        OSError: in the place of what the libraries raise when a file cannot be written.
    """
    try:
        yield
    except WRITING_ERRORS as error:
        reason = reason_not_written(error)
        if reason is None or (isinstance(error, OSError) and error.filename is not None):
            raise
        raise OSError(getattr(error, "errno", None) or errno.EIO, reason, str(folder)) from error
