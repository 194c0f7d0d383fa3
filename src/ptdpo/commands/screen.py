"""What other packages say on the screen: warnings about their future once, bars on terminals only."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

# Read by Hugging Face's packages when they are imported.
_NO_BARS = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS")


def _draw_no_bars() -> None:
    for name in _NO_BARS:
        os.environ.setdefault(name, "1")
    if "transformers" in sys.modules:
        from datasets import disable_progress_bars
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        disable_progress_bars()


@contextmanager
def quiet_screen() -> Iterator[None]:
    """Show each warning about the future once while the block lasts, on the first process; draw no bars into a file.

    Python forgets which warnings it has shown whenever a library changes its filters.
    """
    if not sys.stderr.isatty():
        _draw_no_bars()
    shown: set[str] = set()
    before = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> Any:
        if not issubclass(category, FutureWarning | DeprecationWarning | PendingDeprecationWarning):
            return before(message, category, filename, lineno, file, line)
        if str(message) not in shown and os.environ.get("RANK", "0") == "0":
            shown.add(str(message))
            print(f"{category.__name__}: {' '.join(str(message).split())}", file=file or sys.stderr)
        return None

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before
