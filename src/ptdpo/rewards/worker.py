"""The grading worker: a process of its own that may hang, run out of memory or die on an answer.

It reads one line of JSON per batch, ``[seconds, [[judge, given, expected, options], ...]]``, and writes one line per
answer, in order: ``[verdict, note]``. ``ptdpo.rewards.pool`` starts it.
"""

import contextlib
import json
import logging
import math
import os
import signal
import sys
import time
import warnings
from typing import IO

READY = "ready"
# Enough for any answer that ends in time; a power tower would take the machine's memory first.
_MEMORY = 4 << 30


def main() -> None:
    """Serve until the caller closes standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    # What libraries print must not mix with the replies.
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    from ptdpo.rewards.judges import JUDGES

    # The first use of sympy loads more of it: that is no answer's time.
    JUDGES["mathruler"]("x+1", "1+x", ())
    _limit_memory()
    _send(replies, READY)
    with contextlib.suppress(BrokenPipeError):
        for line in sys.stdin:
            seconds, chunk = json.loads(line)
            for judge, given, expected, options in chunk:
                _limit_time(seconds)
                try:
                    reply = [JUDGES[judge](given, expected, options), ""]
                except Exception as error:
                    reply = [False, f"{judge} raised {type(error).__name__}"]
                _send(replies, reply)


def _send(replies: IO[str], reply: object) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def _limit_time(seconds: float) -> None:
    # The caller kills a worker that is late. Should the caller be gone, the system does, a little later.
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + seconds) + 1, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
