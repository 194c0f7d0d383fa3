"""``ptdpo solutions build``: sample, keep the shortest right response, repair what is unsolved, never show how."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ptdpo.chat.client import ChatClient
from ptdpo.chat.jobs import Clients, Job, JobReport, Service, WorkFiles, run_job
from ptdpo.chat.lines import KeyedLines
from ptdpo.chat.requests import ChatMessage, ChatReply, ChatRequest, Sampling
from ptdpo.data.files import sharegpt_row
from ptdpo.data.identity import made_for
from ptdpo.data.prompts import IMAGE_MARKER, THINKING_INSTRUCTION, marked_text, question_text
from ptdpo.data.rows import Reading
from ptdpo.data.scan import count_rows, refuse_empty, scan_problems
from ptdpo.records import Answered, Problem, Verdict
from ptdpo.rewards import Mode, check_mode, grade_many, read_options
from ptdpo.solutions.screening import shows_given_answer
from ptdpo.values import Amount, Count, check_limits

_VERSION = "solutions-1"
_REVERSE = (
    "A note for you that no reader will see: the final answer is {answer}. Find a line of reasoning that starts from "
    "the question and its images and arrives there. Write it as someone writes who meets the question for the first "
    "time: look, reason step by step, then answer. Do not mention this note or that an answer was available, do not "
    "compare your result with one, and do not state the result before it has been derived."
)


@dataclass(frozen=True, slots=True)
class SolutionSettings:
    """How solutions are asked for.

    Attributes:
        samples: responses per question in the first pass.
        sampling: of all passes; the later ones use ``repair_max_tokens``.
        repair_samples: further responses with the larger budget, for questions that are unsolved; 0 for none.
        repair_max_tokens: the larger budget.
        reverse_samples: responses of the last pass, which sees the answer; 0 for none.
        instruction: after the question, in the requests and in what is stored.
        grading: how responses are graded, see ``ptdpo.rewards.grade_many``.
        reading: how the rows of the problems file are read.
        limit: only so many rows, the first of the file; ``None`` for all.
    """

    samples: Count = 4
    sampling: Sampling = field(default_factory=Sampling)
    repair_samples: Amount = 4
    repair_max_tokens: Count = 32_768
    reverse_samples: Amount = 2
    instruction: str = THINKING_INSTRUCTION
    grading: Mode = "sound"
    reading: Reading = field(default_factory=Reading)
    limit: Count | None = None

    def __post_init__(self) -> None:
        """Refuse settings that ask for nothing.

        Raises:
            ValueError: names the setting.
        """
        check_limits(self)
        check_mode(self.grading, "--grading")


@dataclass(frozen=True, slots=True)
class Solved:
    """A right response, and the pass that gave it: sample, repair or reverse."""

    problem: Problem
    response: str
    stage: str


@dataclass(frozen=True, slots=True)
class _Pass:
    """One way of asking for the solutions of a problem."""

    stage: str
    client: ChatClient
    samples: int
    sampling: Sampling


def build_solutions(
    problems: Path, out: Path, service: Service, settings: SolutionSettings
) -> tuple[JobReport, Counter[str]]:
    """Write a solution for every problem that has none in ``out`` yet, in ShareGPT's form.

    Unsolved problems are listed beside the output, see ``WorkFiles``. A line whose question, images or answer
    have changed is replaced.

    Returns:
        What the run did, and how many solutions came from each pass.

    Raises:
        ValueError: if a file cannot be read or written, holds no problem, or no request can succeed.
        StoppedBySignal: after a signal, when what was in flight has been kept.
    """
    refuse_empty(problems, settings.reading)
    stages: Counter[str] = Counter()
    folder = out.parent
    with KeyedLines(out, _asked) as lines:
        lines.drop(_changed(problems, lines, settings))

        async def work(clients: Clients, problem: Problem) -> Solved:
            return await solve(clients, problem, settings)

        def keep(solved: Solved) -> None:
            stages[solved.stage] += 1
            question = question_text(solved.problem, settings.instruction)
            lines.append(sharegpt_row(solved.problem, question, solved.response, folder))

        job = Job(
            label="solutions",
            problems=scan_problems(problems, settings.reading, limit=settings.limit),
            total=count_rows(problems, settings.limit),
            known=lambda problem: problem.id in lines,
            work=work,
            keep=keep,
        )
        return run_job(job, service, WorkFiles.beside(out)), stages


def _asked(row: Mapping[str, Any]) -> str:
    """Return the hash of the question that stands in a line, and the hash that the line itself holds."""
    return f"{hash(row['conversations'][0]['value'])} {row.get('question_hash') or ''}"


def _changed(problems: Path, lines: KeyedLines, settings: SolutionSettings) -> Iterator[str]:
    """Yield the ids of lines that were made for another question, image or answer than their problem now has."""
    for p in scan_problems(problems, settings.reading, limit=settings.limit):
        if isinstance(p, Problem) and p.id in lines:
            asked, _, stored = lines.tag_of(p.id).partition(" ")
            now = marked_text(question_text(p, settings.instruction), len(p.images))
            if asked != str(hash(now)) or not made_for(p, stored):
                yield p.id


async def solve(clients: Clients, problem: Problem, settings: SolutionSettings) -> Solved:
    """Return the shortest right response of the first pass that has one.

    A response counts if it was not cut off, thinks inside <think> </think>, and its boxed answer is right. From the
    reverse pass, it must not show that the answer was given either. The later passes ask the fallback, if any.

    Raises:
        ValueError: if no pass has a right response; counts what was wrong.
    """
    faults: Counter[str] = Counter()
    for one in _passes(clients, settings):
        requests = [_request(one, problem, settings, number) for number in range(one.samples)]
        replies = await one.client.ask_all(requests)
        options = read_options(problem.problem)
        given = [Answered(with_opened_thinking(reply.written_out), problem.answer, options) for reply in replies]
        # In a thread: an answer that needs symbolic mathematics must not hold up the other requests.
        verdicts = await asyncio.to_thread(grade_many, given, mode=settings.grading, prompt_opens_think=False)
        right = []
        for reply, answered, verdict in zip(replies, given, verdicts, strict=True):
            fault = _fault(reply, answered, verdict, reverse=one.stage == "reverse")
            if fault:
                faults[fault] += 1
            else:
                right.append(answered.response)
        if right:
            return Solved(problem, min(right, key=lambda response: (len(response), response)), one.stage)
    counted = ", ".join(f"{count} {fault}" for fault, count in faults.most_common())
    raise ValueError(f"unsolved: {faults.total()} responses: {counted}")


def _passes(clients: Clients, settings: SolutionSettings) -> Sequence[_Pass]:
    later = clients.fallback or clients.main
    larger = replace(settings.sampling, max_tokens=settings.repair_max_tokens)
    passes = (
        _Pass("sample", clients.main, settings.samples, settings.sampling),
        _Pass("repair", later, settings.repair_samples, larger),
        _Pass("reverse", later, settings.reverse_samples, larger),
    )
    return [one for one in passes if one.samples]


def _request(one: _Pass, problem: Problem, settings: SolutionSettings, number: int) -> ChatRequest:
    text = question_text(problem, settings.instruction)
    if one.stage == "reverse":
        text = f"{text}\n\n{_REVERSE.format(answer=problem.answer)}"
    return ChatRequest(
        id=problem.id,
        model=one.client.endpoint.model,
        messages=(ChatMessage("user", text, problem.images, IMAGE_MARKER in text),),
        sampling=one.sampling,
        sample=number,
        prompt_version=f"{_VERSION}-{one.stage}",
    )


def with_opened_thinking(response: str) -> str:
    """Return a response that opens the thinking it closes: some chat templates leave the opening tag in the prompt."""
    text = response.strip()
    return f"<think>\n{text}" if "</think>" in text and not text.startswith("<think>") else text


def _fault(reply: ChatReply, answered: Answered, verdict: Verdict, *, reverse: bool) -> str | None:
    if reply.cut_off:
        return "cut off"
    if verdict.accuracy != 1:
        return "wrong"
    if verdict.format != 1:
        return "without the asked-for format"
    shown = reverse and shows_given_answer(answered.response, answered.answer)
    return "that show the answer was given" if shown else None
