"""What a run has used, and the bar that shows it: rate, tokens, estimated cost, time left."""

import time
from dataclasses import dataclass, field
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ptdpo.chat.requests import ChatReply
from ptdpo.chat.secrets import printable

_MILLION = 1_000_000
_SECONDS_BETWEEN_DRAWINGS = 0.2
_NAMED = 3


@dataclass(slots=True)
class Usage:
    """What the requests of this run used; replies that were known before cost nothing and count as ``reused``.

    Attributes:
        price_in: of a million prompt tokens, in any currency; ``None`` if unknown.
        price_out: of a million response tokens.
        invalid: the ids of the problems to which a reply was none, once for each such reply.
        asked_wait: the longest wait that the server asked for, in seconds.
    """

    price_in: float | None = None
    price_out: float | None = None
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retries: int = 0
    reused: int = 0
    invalid: list[str] = field(default_factory=list)
    asked_wait: float = 0.0

    def count_invalid(self, problem_id: str) -> None:
        """Note whose reply was not one."""
        self.invalid.append(problem_id)

    def note_wait(self, seconds: float) -> None:
        """Note how long the server wants to be left alone, 0 if it does not say."""
        self.asked_wait = max(self.asked_wait, seconds)

    def add(self, reply: ChatReply) -> None:
        """Count a reply that was paid for."""
        self.requests += 1
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens

    @property
    def cost(self) -> float | None:
        """The estimated cost, or ``None`` if no price is known."""
        if self.price_in is None and self.price_out is None:
            return None
        paid_in, paid_out = self.prompt_tokens * (self.price_in or 0), self.completion_tokens * (self.price_out or 0)
        return (paid_in + paid_out) / _MILLION

    def describe(self) -> str:
        """Return the figures in one line."""
        parts = [f"{self.requests} requests", f"{self.prompt_tokens:,} + {self.completion_tokens:,} tokens"]
        if self.cost is not None:
            parts.append(f"cost about {self.cost:.2f}")
        if self.reused:
            parts.append(f"{self.reused} reused")
        if self.retries:
            parts.append(f"{self.retries} retries")
        if self.invalid:
            named = list(dict.fromkeys(printable(one) for one in self.invalid))
            more = ", ..." if len(named) > _NAMED else ""
            parts.append(f"{len(self.invalid)} invalid replies (to {', '.join(named[:_NAMED])}{more})")
        if self.asked_wait:
            parts.append(f"the server asked to wait up to {self.asked_wait:.0f} s")
        return ", ".join(parts)


class UsageBar:
    """A progress bar with rate, usage and time left; use as a context manager.

    What was done before does not count for the rate, and costs no drawing.
    """

    def __init__(self, label: str, total: int | None, usage: Usage, console: Console | None = None) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
        )
        self._bar = Progress(*columns, console=console or Console(stderr=True), refresh_per_second=4)
        self._task = self._bar.add_task(label, total=total, said="")
        self._total, self._usage = total, usage
        self._done = self._known = 0
        self._start = self._drawn = time.monotonic()

    def known(self) -> None:
        """Count a problem that needed no work."""
        self._known += 1

    def done(self) -> None:
        """Count a problem that was worked on."""
        self._done += 1
        if time.monotonic() - self._drawn >= _SECONDS_BETWEEN_DRAWINGS:
            self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        seconds = max(self._drawn - self._start, 1e-9)
        said = [f"{60 * self._done / seconds:.0f}/min", self._usage.describe()]
        if self._total is not None and self._done:
            left = max(0, self._total - self._known - self._done) * seconds / self._done
            said.append(f"{timedelta(seconds=round(left))} left")
        self._bar.update(self._task, completed=self._known + self._done, said=", ".join(said))

    def __enter__(self) -> "UsageBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._draw()
        self._bar.stop()
