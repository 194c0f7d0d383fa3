"""Run something that asks a model over many problems: resumable, bounded, with failures listed by id."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Generic, TypeVar

from rich.console import Console

from ptdpo.chat.client import ChatClient, ClientSettings, Endpoint, EndpointError
from ptdpo.chat.limits import StopSignal
from ptdpo.chat.pool import pooled, run_interruptible
from ptdpo.chat.progress import Usage, UsageBar
from ptdpo.chat.store import RequestStore
from ptdpo.data.checks import BadRow
from ptdpo.data.files import write_jsonl
from ptdpo.folders import regular_file
from ptdpo.records import Problem
from ptdpo.values import NOT_NEGATIVE

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Clients:
    """The model that is asked first, and the one that is asked when it fails."""

    main: ChatClient
    fallback: ChatClient | None


Price = Annotated[float, NOT_NEGATIVE]


@dataclass(frozen=True, slots=True)
class Service:
    """Where requests go and how.

    Attributes:
        main: the endpoint.
        fallback: the second one, if any.
        settings: how requests are sent, the same for both.
        price_in: of a million prompt tokens, for the estimate of costs.
        price_out: of a million response tokens.
    """

    main: Endpoint
    fallback: Endpoint | None = None
    settings: ClientSettings = field(default_factory=ClientSettings)
    price_in: Price | None = None
    price_out: Price | None = None


@dataclass(frozen=True, slots=True)
class WorkFiles:
    """The files of a job: its output; the answered requests, the failures and the reviewers' decisions beside it."""

    out: Path
    requests: Path
    failed: Path
    reviews: Path

    @classmethod
    def beside(cls, out: Path) -> "WorkFiles":
        """Return the files that belong to an output file."""
        stem = out.name.removesuffix(".jsonl")
        return cls(out, *(out.with_name(f"{stem}.{kind}.jsonl") for kind in ("requests", "failed", "reviews")))

    def refuse_foreign(self) -> None:
        """Refuse files of these names beside the output that no job wrote.

        Raises:
            ValueError: naming the file and its first line that is none of ours.
        """
        for path, first_only in ((self.requests, True), (self.failed, False), (self.reviews, True)):
            if not path.exists():
                continue
            with regular_file(path).open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    if not _ours(line):
                        raise ValueError(
                            f"{path}:{number}: not a line that this command writes, and the file would be written "
                            "over: name another --out, or insist with --overwrite"
                        )
                    if first_only:
                        break


_LINES = (
    {"id", "reason"}, {"key", "id", "sample", "model", "prompt", "reply"},
    {"rejected", "hint", "reason"}, {"accepted"}, {"applied", "file"},
)  # fmt: skip


def _ours(line: bytes) -> bool:
    """Return whether a line beside an output is of a kind that jobs write, or the torn beginning of one."""
    try:
        row = json.loads(line)
    except RecursionError:
        return False
    except ValueError:
        return not line.endswith(b"\n") and line.startswith(b"{")
    return isinstance(row, dict) and row.keys() in _LINES


@dataclass(slots=True)
class JobReport:
    """What a run did: problems done now, known before, and failed; and what it used."""

    usage: Usage
    done: int = 0
    known: int = 0
    failed: list[BadRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Job(Generic[Result]):
    """What is done with every problem.

    Attributes:
        label: in front of the progress bar.
        problems: the problems, and rows that cannot be used.
        total: how many there are, for the bar; ``None`` if unknown.
        known: whether a problem needs no work.
        work: asks about one problem; a ``ValueError`` is the failure of this problem only.
        keep: takes a result as soon as it is there.
    """

    label: str
    problems: Iterable[Problem | BadRow]
    total: int | None
    known: Callable[[Problem], bool]
    work: Callable[[Clients, Problem], Awaitable[Result]]
    keep: Callable[[Result], None]


def run_job(job: Job[Result], service: Service, files: WorkFiles, console: Console | None = None) -> JobReport:
    """Do the work on every problem that needs it; answered requests are kept beside the output.

    Failures are written to ``files.failed``, one line per id with the reason; the file is removed if there are none.

    Raises:
        EndpointError: if no request can succeed; what was answered before is kept.
        ValueError: if a file cannot be written.
        StoppedBySignal: after a signal, when what was in flight has been kept.
    """
    console = console or Console(stderr=True)
    report = JobReport(Usage(service.price_in, service.price_out))
    with RequestStore(files.requests) as store:
        if store.repaired:
            console.print(f"{files.requests}: a torn last line was removed; its request is sent again")
        try:
            return run_interruptible(lambda stop: _run(job, service, store, report, stop, console), console.print)
        except OSError as error:
            raise ValueError(
                f"{files.out}: cannot be written ({error}); the same command goes on from there"
            ) from error
        finally:
            _write_failures(files.failed, report.failed)


async def _run(
    job: Job[Result], service: Service, store: RequestStore, report: JobReport, stop: StopSignal, console: Console
) -> JobReport:
    async with _clients(service, store, report.usage, stop) as clients:
        with UsageBar(job.label, job.total, report.usage, console) as bar:

            async def guarded(problem: Problem) -> Result | BadRow:
                try:
                    return await job.work(clients, problem)
                except EndpointError:
                    raise
                except ValueError as error:
                    return BadRow(problem.id, str(error))

            waiting = _to_do(job, report, bar)
            results = pooled(waiting, guarded, concurrency=service.settings.concurrency, stop=stop)
            async with aclosing(results):
                async for result in results:
                    if isinstance(result, BadRow):
                        report.failed.append(result)
                    else:
                        job.keep(result)
                        report.done += 1
                    bar.done()
    return report


def _to_do(job: Job[Result], report: JobReport, bar: UsageBar) -> Iterator[Problem]:
    for problem in job.problems:
        if isinstance(problem, Problem) and not job.known(problem):
            yield problem
            continue
        bar.known()
        if isinstance(problem, BadRow):
            report.failed.append(problem)
        else:
            report.known += 1


@asynccontextmanager
async def _clients(service: Service, store: RequestStore, usage: Usage, stop: StopSignal) -> AsyncIterator[Clients]:
    async with AsyncExitStack() as stack:

        async def opened(endpoint: Endpoint) -> ChatClient:
            client = ChatClient(endpoint, store, settings=service.settings, usage=usage, stop=stop)
            return await stack.enter_async_context(client)

        main = await opened(service.main)
        yield Clients(main, await opened(service.fallback) if service.fallback else None)


def _write_failures(path: Path, failed: list[BadRow]) -> None:
    if failed:
        write_jsonl(path, ({"id": row.id, "reason": row.reason} for row in failed))
    else:
        path.unlink(missing_ok=True)


def read_failures(path: Path) -> dict[str, str]:
    """Return the reasons of a list of failures by id; empty if there is no such file."""
    if not path.is_file():
        return {}
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {row["id"]: row["reason"] for row in rows}
