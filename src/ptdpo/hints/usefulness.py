"""Does a hint help? pass@n of a model with the hint against without it (Figure 5)."""

import asyncio
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ptdpo.chat.client import ChatClient
from ptdpo.chat.jobs import Clients, Job, JobReport, Service, WorkFiles, run_job
from ptdpo.chat.requests import ChatMessage, ChatRequest, Sampling
from ptdpo.data.checks import BadRow
from ptdpo.data.files import write_jsonl
from ptdpo.data.prompts import IMAGE_MARKER, THINKING_INSTRUCTION, hint_text, question_text, with_hint
from ptdpo.data.rows import Reading
from ptdpo.hints.hinted import checked_hints, hinted_problems
from ptdpo.records import Answered, Hint, Problem
from ptdpo.rewards import Mode, check_mode, grade_many, read_options
from ptdpo.statistics import Estimate, mean_interval, pass_at_k
from ptdpo.values import Count, check_limits

_VERSION = "answer-1"


@dataclass(frozen=True, slots=True)
class HintedDraws:
    """Right responses among ``draws`` without and with the hint, and how many were cut off."""

    id: str
    draws: int
    right_without: int
    right_with: int
    cut_off: int

    @property
    def gain(self) -> float:
        """pass@1 with the hint minus without."""
        return (self.right_with - self.right_without) / self.draws

    @property
    def flag(self) -> str:
        """Why the hint is not worth training on; empty if it helps."""
        if self.right_without == self.draws:
            return "always solved without the hint"
        if self.right_with == 0:
            return "never solved with the hint"
        return "" if self.gain > 0 else "does not help"


@dataclass(frozen=True, slots=True)
class Usefulness:
    """Means over all problems.

    Attributes:
        compared: the problems.
        gain: mean of pass@1 with the hint minus without, with its 95 % interval over problems; for a single problem
            the interval is NaN.
    """

    compared: Sequence[HintedDraws]
    gain: Estimate

    def rows(self) -> list[tuple[str, str, str]]:
        """Return the cells to print: pass@k without and with the hint."""
        draws = min(one.draws for one in self.compared)
        ks = [2**power for power in range(draws.bit_length()) if 2**power <= draws]
        return [(f"pass@{k}", f"{self.mean_pass(k, False):.3f}", f"{self.mean_pass(k, True):.3f}") for k in ks]

    def flagged(self) -> dict[str, list[str]]:
        """Return the ids of hints that are not worth training on, by reason."""
        found: dict[str, list[str]] = {}
        for one in self.compared:
            if one.flag:
                found.setdefault(one.flag, []).append(one.id)
        return found

    def mean_pass(self, k: int, with_hint: bool) -> float:
        """Return the mean of pass@k over problems."""
        return statistics.fmean(
            pass_at_k(right=one.right_with if with_hint else one.right_without, samples=one.draws, k=k)
            for one in self.compared
        )


def summarise(compared: Sequence[HintedDraws]) -> Usefulness:
    """Return the means.

    Raises:
        ValueError: if there is nothing to compare.
    """
    if not compared:
        raise ValueError("no problem was answered both with and without its hint")
    gains = [one.gain for one in compared]
    gain = mean_interval(gains) if len(gains) > 1 else Estimate(gains[0], math.nan, math.nan)
    return Usefulness(compared, gain)


@dataclass(frozen=True, slots=True)
class UsefulnessSettings:
    """Draws with and without the hint, how they are drawn and graded, the instruction, and how files are read."""

    draws: Count = 8
    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=4096))
    instruction: str = THINKING_INSTRUCTION
    grading: Mode = "sound"
    reading: Reading = field(default_factory=Reading)
    ignore_question: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that measure nothing.

        Raises:
            ValueError: if there is no draw, or no such grading.
        """
        check_mode(self.grading, "--grading")
        check_limits(self)


def measure_usefulness(
    problems: Path, hints: Path, out: Path, service: Service, settings: UsefulnessSettings
) -> tuple[Usefulness, JobReport]:
    """Answer every hinted problem with and without its hint; write one line per hint to ``out``.

    Answered requests are kept beside the output, so that a stopped run goes on.

    Raises:
        ValueError: if a file cannot be read, hints were made for other questions, or no request can succeed.
        StoppedBySignal: after a signal, when what was in flight has been kept.
    """
    known = checked_hints(problems, hints, settings.reading, ignore_question=settings.ignore_question)

    async def work(clients: Clients, problem: Problem) -> HintedDraws:
        return await _compare(clients.main, problem, known[problem.id], settings)

    compared: list[HintedDraws] = []
    rows = hinted_problems(problems, known, settings.reading)
    job = Job("answering", rows, len(known), lambda _: False, work, compared.append)
    report = run_job(job, service, WorkFiles.beside(out))
    write_jsonl(out, map(usefulness_line, compared))
    return summarise(compared), report


def hinted_texts(problems: Path, hints: Path, settings: UsefulnessSettings) -> Iterator[tuple[Problem, str, str]]:
    """Yield each hinted problem with its question as text, and with question and hint as text.

    Raises:
        ValueError: if a file cannot be read, or a hint or a problem cannot be used.
    """
    known = checked_hints(problems, hints, settings.reading, ignore_question=settings.ignore_question)
    for row in hinted_problems(problems, known, settings.reading):
        if isinstance(row, BadRow):
            raise ValueError(f"{row.id}: {row.reason}")
        yield row, *_texts(row, known[row.id], settings)


def _texts(problem: Problem, hint: Hint, settings: UsefulnessSettings) -> tuple[str, str]:
    plain = question_text(problem, settings.instruction)
    return plain, with_hint(plain, hint_text(hint), settings.instruction)


def usefulness_line(one: HintedDraws) -> dict[str, object]:
    """Return the line of a hint in the file that is written."""
    return {
        "id": one.id,
        "draws": one.draws,
        "right_without": one.right_without,
        "right_with": one.right_with,
        "cut_off": one.cut_off,
        "gain": one.gain,
        "flag": one.flag,
    }


async def _compare(client: ChatClient, problem: Problem, hint: Hint, settings: UsefulnessSettings) -> HintedDraws:
    plain, hinted = _texts(problem, hint, settings)
    texts = [plain] * settings.draws + [hinted] * settings.draws
    replies = await client.ask_all(
        _request(client, problem, text, n % settings.draws, settings) for n, text in enumerate(texts)
    )
    options = read_options(problem.problem)
    answered = [Answered(reply.text, problem.answer, options) for reply in replies]
    # In a thread: an answer that needs symbolic mathematics must not hold up the other requests.
    verdicts = await asyncio.to_thread(grade_many, answered, mode=settings.grading)
    right = [verdict.accuracy == 1 for verdict in verdicts]
    without, with_it = sum(right[: settings.draws]), sum(right[settings.draws :])
    return HintedDraws(problem.id, settings.draws, without, with_it, sum(reply.cut_off for reply in replies))


def _request(client: ChatClient, problem: Problem, text: str, sample: int, settings: UsefulnessSettings) -> ChatRequest:
    return ChatRequest(
        id=problem.id,
        model=client.endpoint.model,
        messages=(ChatMessage("user", text, problem.images, IMAGE_MARKER in text),),
        sampling=settings.sampling,
        sample=sample,
        prompt_version=_VERSION,
    )
