"""Can the answer be guessed from the hint alone, without question and image, more often than chance?"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Annotated

from ptdpo.chat.jobs import Clients, Job, JobReport, Service, WorkFiles, run_job
from ptdpo.chat.requests import ChatMessage, ChatRequest, Sampling
from ptdpo.data.files import write_jsonl
from ptdpo.data.prompts import hint_text
from ptdpo.data.rows import Reading
from ptdpo.hints.hinted import checked_hints, hinted_problems
from ptdpo.records import Hint, Problem
from ptdpo.rewards.extraction import last_boxed
from ptdpo.rewards.keys import AnswerKey, answer_key, answers_match
from ptdpo.values import Count, Range, check_limits

# By whether the problem has images: the version of the request, and how it begins.
_ASKED = {
    True: (
        "recover-1",
        "Below is a hint that belongs to a question about an image. You can see neither the question nor the image.",
    ),
    False: ("recover-text-1", "Below is a hint that belongs to a question. You cannot see the question."),
}
_ASK = (
    "Guess the final answer to the question from the hint alone. Always give your single best guess, without "
    "explaining it, in \\boxed{}."
)
_OPTIONS = 4
_FEW_NUMBERS, _OPEN = 1 / 10, 1 / 50
_YES_NO = {"yes", "no", "true", "false"}


@dataclass(frozen=True, slots=True)
class Guessed:
    """What was guessed from one hint; ``None`` for a response without a guess."""

    id: str
    answer: str
    guesses: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Recovery:
    """How much one hint gives away.

    Attributes:
        id: of the problem.
        recovered: guesses that were right.
        guesses: all guesses.
        chance: how often the same answer is guessed from hints of problems with another answer.
        p_value: probability of at least so many right guesses from a hint that gives nothing away.
        rejected: whether that is too improbable.
    """

    id: str
    recovered: int
    guesses: int
    chance: float
    p_value: float
    rejected: bool


def judge_recovery(guessed: Sequence[Guessed], alpha: float = 0.01) -> list[Recovery]:
    """Compare each hint with chance, as measured on the other hints.

    Under chance, a hint has nothing to do with the answer. What a model guesses then is seen from the hints of all
    problems with ANOTHER answer: the p-value is the share of those from which this answer was guessed at least as
    often, this hint itself counted (a permutation test; it allows for a model that prefers some answers, and for
    guesses from one hint that resemble each other). With fewer than 1 / alpha such hints the p-value is the binomial
    tail, at the larger of the measured rate and a floor by kind of answer: 1/4 for an option letter, 1/2 for yes or
    no, 1/10 for a one-digit number, 1/50 for others.

    Args:
        guessed: every hint of a file.
        alpha: share of hints that give nothing away which may be rejected.
    """
    background = _Background(guessed)
    return [_judge(one, background, alpha) for one in guessed]


def _judge(one: Guessed, background: "_Background", alpha: float) -> Recovery:
    right = sum(guess is not None and answers_match(guess, one.answer) for guess in one.guesses)
    others, chance = background.others(one.answer), background.rate(one.answer)
    if right == 0:
        p_value = 1.0
    elif others + 1 >= 1 / alpha:
        p_value = (1 + background.at_least(one.answer, right)) / (1 + others)
    else:
        p_value = _binomial_tail(right, len(one.guesses), max(chance, _floor(one.answer)))
    return Recovery(one.id, right, len(one.guesses), chance, p_value, p_value <= alpha)


class _Background:
    """How often each answer is guessed from hints of problems with another answer."""

    def __init__(self, guessed: Sequence[Guessed]) -> None:
        self._with_answer: Counter[AnswerKey | None] = Counter()
        self._guesses_with: Counter[AnswerKey | None] = Counter()
        self._hits: dict[AnswerKey | None, Counter[int]] = defaultdict(Counter)
        for one in guessed:
            own = answer_key(one.answer)
            self._with_answer[own] += 1
            self._guesses_with[own] += len(one.guesses)
            found = Counter(answer_key(guess) for guess in one.guesses if guess is not None)
            for key, count in found.items():
                if key != own:
                    self._hits[key][count] += 1

    def others(self, answer: str) -> int:
        """Hints of problems with another answer."""
        return self._with_answer.total() - self._with_answer[answer_key(answer)]

    def at_least(self, answer: str, count: int) -> int:
        """Those of them from which this answer was guessed so often."""
        return sum(hints for found, hints in self._hits[answer_key(answer)].items() if found >= count)

    def rate(self, answer: str) -> float:
        """Share of their guesses that give this answer."""
        guesses = self._guesses_with.total() - self._guesses_with[answer_key(answer)]
        hits = sum(found * hints for found, hints in self._hits[answer_key(answer)].items())
        return hits / guesses if guesses else 0.0


def _floor(answer: str) -> float:
    key = answer_key(answer)
    if key is None:
        return _OPEN
    if isinstance(key.value, Fraction):
        return _FEW_NUMBERS if key.value.denominator == 1 and 0 <= key.value < 10 else _OPEN
    if key.value in _YES_NO:
        return 1 / 2
    return 1 / _OPTIONS if key.kind == "letters" and len(key.value) == 1 else _OPEN


def _binomial_tail(least: int, draws: int, chance: float) -> float:
    return sum(math.comb(draws, k) * chance**k * (1 - chance) ** (draws - k) for k in range(least, draws + 1))


@dataclass(frozen=True, slots=True)
class RecoverySettings:
    """How many guesses, how they are drawn, when a hint is rejected, and how files are read."""

    guesses: Count = 8
    alpha: Annotated[float, Range(0, 1, with_low=False, with_high=False)] = 0.01
    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=2048))
    reading: Reading = field(default_factory=Reading)
    ignore_question: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that measure nothing.

        Raises:
            ValueError: names the setting.
        """
        check_limits(self)


def measure_recoverability(
    problems: Path, hints: Path, out: Path, service: Service, settings: RecoverySettings
) -> tuple[list[Recovery], JobReport]:
    """Guess every answer of a hints file from its hint alone; write one line per hint to ``out``.

    Answered requests are kept beside the output, so that a stopped run goes on.

    Raises:
        ValueError: if a file cannot be read, hints were made for other questions, or no request can succeed.
        StoppedBySignal: after a signal, when what was in flight has been kept.
    """
    known = checked_hints(problems, hints, settings.reading, ignore_question=settings.ignore_question)

    async def work(clients: Clients, problem: Problem) -> Guessed:
        return await _guess(clients, problem, known[problem.id], settings)

    guessed: list[Guessed] = []
    rows = hinted_problems(problems, known, settings.reading)
    job = Job("guessing", rows, len(known), lambda _: False, work, guessed.append)
    report = run_job(job, service, WorkFiles.beside(out))
    judged = judge_recovery(guessed, settings.alpha)
    write_jsonl(out, (_line(g, r) for g, r in zip(guessed, judged, strict=True)))
    return judged, report


def _line(guessed: Guessed, judged: Recovery) -> dict[str, object]:
    return {
        "id": judged.id,
        "guesses": list(guessed.guesses),
        "recovered": judged.recovered,
        "chance": judged.chance,
        "p_value": judged.p_value,
        "rejected": judged.rejected,
    }


async def _guess(clients: Clients, problem: Problem, hint: Hint, settings: RecoverySettings) -> Guessed:
    version, opening = _ASKED[bool(problem.images)]
    requests = [
        ChatRequest(
            id=problem.id,
            model=clients.main.endpoint.model,
            messages=(ChatMessage("user", f"{opening} {_ASK}\n\n{hint_text(hint)}"),),
            sampling=settings.sampling,
            sample=number,
            prompt_version=version,
        )
        for number in range(settings.guesses)
    ]
    replies = await clients.main.ask_all(requests)
    return Guessed(problem.id, problem.answer, tuple(last_boxed(reply.text) for reply in replies))
