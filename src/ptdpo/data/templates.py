"""Chat templates are programs that come with a model: they are given so much time, and no more."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Of processor time, so that a busy machine makes no difference; a template takes a thousandth of a second.
SECONDS = 10.0


class EndlessTemplateError(ValueError):
    """A chat template does not end. No row's fault: every row would take as long."""


def apply_template(processor: Any, messages: Any, **template: Any) -> str:
    """Return messages as a model's chat template writes them, up to where its response begins.

    Args:
        processor: the model's processor, or the tokenizer of a model of text.
        messages: in the form of content that the template reads.
        **template: arguments of the chat template.

    Raises:
        EndlessTemplateError: after ``SECONDS`` of processor time, in the main thread.
        Exception: whatever the template raises.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    with _ending(str(getattr(tokenizer, "name_or_path", "") or "the model")):
        return processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **template)


@contextmanager
def _ending(name: str) -> Iterator[None]:
    def end(*_: object) -> None:
        raise EndlessTemplateError(
            f"{name}: its chat template has not written a prompt after {SECONDS:g} seconds of processor time: it does "
            "not end; mend it, or take another model"
        )

    # Signals reach the main thread only.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)
