"""``ptdpo hints build``: a hint for every problem, checked, asked for again with the reasons when it is rejected."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ptdpo.chat.client import ChatClient, RequestError
from ptdpo.chat.jobs import Clients, Job, JobReport, Service, WorkFiles, run_job
from ptdpo.chat.lines import KeyedLines
from ptdpo.chat.requests import ChatReply, ChatRequest, Sampling
from ptdpo.data.identity import made_for, question_hash
from ptdpo.data.rows import Reading
from ptdpo.data.scan import count_rows, refuse_empty, scan_problems
from ptdpo.hints.decisions import Decisions
from ptdpo.hints.prompt import HINT_SCHEMA, Rejection, SystemPrompt, hint_messages, parse_hint
from ptdpo.hints.quality import HintVerdict
from ptdpo.records import Hint, Problem
from ptdpo.values import Amount, Count, check_limits

Check = Callable[[Problem, Hint], HintVerdict]


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """How hints are asked for.

    Attributes:
        prompt: the system prompt.
        sampling: of the hint writer, the fallback too.
        attempts: hints asked of the first model before the fallback, or failure.
        fallback_attempts: hints asked of the fallback.
        recheck: check hints that are there already, and replace those that are rejected.
        reading: how the rows of the problems file are read.
        limit: only so many rows, the first of the file; ``None`` for all.
    """

    prompt: SystemPrompt
    sampling: Sampling = field(default_factory=Sampling)
    attempts: Count = 3
    fallback_attempts: Amount = 2
    recheck: bool = False
    reading: Reading = field(default_factory=Reading)
    limit: Count | None = None

    def __post_init__(self) -> None:
        """Refuse settings that ask for nothing.

        Raises:
            ValueError: names the setting.
        """
        check_limits(self)


@dataclass(frozen=True, slots=True)
class BuiltHint:
    """An accepted hint: who wrote it, at the how-manieth attempt, and why those before were rejected."""

    problem: Problem
    hint: Hint
    model: str
    attempts: int
    rejected: tuple[str, ...]


def build_hints(
    problems: Path,
    out: Path,
    service: Service,
    settings: BuildSettings,
    *,
    check: Check,
    review: Path | None = None,
) -> JobReport:
    """Write a hint for every problem of a file that has none in ``out`` yet.

    Lines whose question, images or answer have changed since, and those that a review rejects, are replaced; those that
    it edits are changed. What failed is listed beside the output, see ``WorkFiles``.

    Args:
        problems: JSONL or parquet.
        out: hints file, appended to as hints are accepted.
        service: where requests go.
        settings: how hints are asked for.
        check: says whether a hint may be used.
        review: a list of accepted and rejected ids, as the review page gives it.

    Raises:
        ValueError: if a file cannot be read or written, holds no problem, or no request can succeed.
        StoppedBySignal: after a signal, when what was in flight has been kept.
    """
    refuse_empty(problems, settings.reading)
    files = WorkFiles.beside(out)
    with KeyedLines(out, _stored_hash) as hints, Decisions.beside(out) as reviewed:
        if review is not None:
            reviewed.apply(review, lambda problem_id: _hint_in(hints.row_of(problem_id)))
        hints.replace(dict(_edited(hints, reviewed)))
        hints.drop(_outdated(problems, hints, reviewed, settings, check))

        async def work(clients: Clients, problem: Problem) -> BuiltHint:
            return await ask_for_hint(
                clients, problem, settings, _with_review(check, reviewed), reviewed.count(problem.id)
            )

        job = Job(
            label="hints",
            problems=scan_problems(problems, settings.reading, limit=settings.limit),
            total=count_rows(problems, settings.limit),
            known=lambda problem: problem.id in hints,
            work=work,
            keep=lambda built: hints.append(_line(built)),
        )
        return run_job(job, service, files)


def _line(built: BuiltHint) -> dict[str, object]:
    return {
        "id": built.problem.id,
        "hint": {"look": built.hint.look, "reason": built.hint.reason},
        "model": built.model,
        "attempts": built.attempts,
        "rejected": list(built.rejected),
        "question_hash": question_hash(built.problem),
    }


def _hint_in(row: Mapping[str, Any]) -> Hint:
    return Hint(row["hint"]["look"], row["hint"]["reason"])


def _stored_hash(row: Mapping[str, Any]) -> str:
    """Return the hash of the question that a line was made for; empty if it does not say."""
    _hint_in(row)  # raises if the line is not a hint
    return str(row.get("question_hash", ""))


def _edited(hints: KeyedLines, reviewed: Decisions) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the lines of hints that a reviewer edited; one that was made anew since then stays as it is."""
    for problem_id in reviewed.edited_ids:
        if problem_id not in hints:
            continue
        row = hints.row_of(problem_id)
        to = reviewed.edit_of(problem_id, _hint_in(row))
        if to is not None:
            yield problem_id, {**row, "hint": {"look": to.look, "reason": to.reason}, "edited_from": row["hint"]}


def _outdated(
    problems: Path, hints: KeyedLines, reviewed: Decisions, settings: BuildSettings, check: Check
) -> Iterator[str]:
    """Yield the ids whose line in the hints file must go."""
    for problem in scan_problems(problems, settings.reading, limit=settings.limit):
        if not isinstance(problem, Problem) or problem.id not in hints:
            continue
        if not made_for(problem, hints.tag_of(problem.id)):
            yield problem.id
        elif settings.recheck or reviewed.count(problem.id):
            hint = _hint_in(hints.row_of(problem.id))
            recheck = settings.recheck and problem.id not in reviewed.accepted
            if reviewed.reason_against(problem.id, hint) or (recheck and not check(problem, hint).ok):
                yield problem.id


def _with_review(check: Check, reviewed: Decisions) -> Callable[[Problem, Hint], list[str]]:
    def reasons(problem: Problem, hint: Hint) -> list[str]:
        against = reviewed.reason_against(problem.id, hint)
        if against is not None:
            return [against]
        verdict = check(problem, hint)
        return [] if verdict.ok else list(verdict.reasons) or ["rejected by the check"]

    return reasons


async def ask_for_hint(
    clients: Clients,
    problem: Problem,
    settings: BuildSettings,
    reasons: Callable[[Problem, Hint], Sequence[str]],
    more_attempts: int = 0,
) -> BuiltHint:
    """Ask until a hint is accepted: first the main model, then the fallback.

    A cut-off response goes to the fallback at once. Every further request shows the last rejected hint and why.

    Args:
        clients: the models.
        problem: with its answer, which the models see.
        settings: how many attempts.
        reasons: why a hint is rejected; empty if it is not.
        more_attempts: of the main model, such as one for each hint that a reviewer rejected.

    Raises:
        ValueError: if no hint was accepted; gives the reasons, or the fault of an image.
    """
    rejected: list[str] = []
    last: Rejection | None = None
    attempts = 0
    for client, tries in _plan(clients, settings, more_attempts):
        for _ in range(tries):
            request = _request(client, problem, settings, attempts, last)
            attempts += 1
            try:
                reply = await client.ask(request)
            except RequestError as error:
                rejected.append(str(error))
                break
            hint, why = _judge(problem, reply, reasons)
            if hint is not None and not why:
                return BuiltHint(problem, hint, client.endpoint.model, attempts, tuple(rejected))
            rejected += why
            if reply.cut_off:
                if clients.fallback is not None:
                    break
            else:
                last = Rejection(reply.text, tuple(why))
    raise ValueError(f"no hint accepted in {attempts} attempts: {'; '.join(dict.fromkeys(rejected))}")


def _plan(clients: Clients, settings: BuildSettings, more: int) -> Iterator[tuple[ChatClient, int]]:
    yield clients.main, settings.attempts + more
    if clients.fallback is not None:
        yield clients.fallback, settings.fallback_attempts


def _request(
    client: ChatClient, problem: Problem, settings: BuildSettings, attempt: int, last: Rejection | None
) -> ChatRequest:
    return ChatRequest(
        id=problem.id,
        model=client.endpoint.model,
        messages=hint_messages(problem, settings.prompt, last),
        sampling=settings.sampling,
        sample=attempt,
        prompt_version=settings.prompt.of(problem).version,
        schema=HINT_SCHEMA,
    )


def _judge(
    problem: Problem, reply: ChatReply, reasons: Callable[[Problem, Hint], Sequence[str]]
) -> tuple[Hint | None, list[str]]:
    if reply.cut_off:
        return None, [f"cut off after {reply.completion_tokens} tokens"]
    try:
        hint = parse_hint(reply.text)
    except ValueError as error:
        return None, [str(error)]
    return hint, list(reasons(problem, hint))
