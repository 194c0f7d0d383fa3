"""What a run has used, and the bar that shows it: rate, tokens, estimated cost, time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ptdpo.hints.requests import ChatReply

_MILLION = 1_000_000


@dataclass(slots=True)
class Usage:
    """What the requests of this run used; replies that were known before cost nothing and count as ``reused``.

    Attributes:
        price_in: of a million prompt tokens, in any currency; ``None`` if unknown.
        price_out: of a million response tokens.
    """

    price_in: float | None = None
    price_out: float | None = None
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retries: int = 0
    reused: int = 0

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
        return ", ".join(parts)


@contextmanager
def usage_bar(
    label: str, total: int | None, usage: Usage, console: Console | None = None
) -> Iterator[Callable[[], None]]:
    """Show a progress bar with the usage of a run; yields the function that advances it by one."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[used]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console or Console(stderr=True), refresh_per_second=4) as bar:
        task = bar.add_task(label, total=total, rate="", used="")

        def advance() -> None:
            bar.advance(task)
            speed = bar.tasks[task].speed
            rate = f"{speed * 60:.0f}/min" if speed else ""
            bar.update(task, rate=rate, used=usage.describe())

        yield advance
