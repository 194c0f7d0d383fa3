"""Does a response give the expected answer? Three ways to say so, none of which can hang or run what a model wrote."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

from ptdpo.records import Answered, Verdict
from ptdpo.rewards.extraction import follows_format, last_boxed
from ptdpo.rewards.fallbacks import find_answer
from ptdpo.rewards.judges import MATH_VERIFY
from ptdpo.rewards.matching import match_here
from ptdpo.rewards.parity import boxed_content, parity_here
from ptdpo.rewards.pool import SECONDS, Reply, Request, WorkerPool, shared_pool
from ptdpo.rewards.second import require_math_verify

Mode = Literal["mathruler", "strict", "lenient"]


def grade(
    response: str,
    answer: str,
    *,
    options: Sequence[str] = (),
    mode: Mode = "mathruler",
    seconds: float = SECONDS,
    prompt_opens_think: bool = True,
) -> Verdict:
    """Grade one response; see ``grade_many``.

    Raises:
        ValueError: if the answer is empty or the mode unknown.
    """
    items = [Answered(response, answer, tuple(options))]
    return grade_many(items, mode=mode, seconds=seconds, prompt_opens_think=prompt_opens_think)[0]


def grade_many(
    items: Sequence[Answered],
    *,
    mode: Mode = "mathruler",
    seconds: float = SECONDS,
    second_opinion: bool = False,
    prompt_opens_think: bool = True,
    pool: WorkerPool | None = None,
) -> list[Verdict]:
    """Grade responses, in order.

    What needs symbolic mathematics is decided in worker processes; the rest, which is most, here.

    Args:
        items: the responses.
        mode: "mathruler" gives what ``mathruler.grade_answer(extract_boxed_content(response), answer)`` gives, for
            figures comparable with published ones. "strict" takes the last complete box and wants the same value
            in any notation, the unit included. "lenient" also looks outside boxes, and forgives missing units, per
            cent signs, and rounding.
        seconds: time limit per answer; a later one is wrong, with a note.
        second_opinion: also ask math-verify, see ``Verdict.second``.
        prompt_opens_think: see ``follows_format``.
        pool: the workers; ``None`` for this process's own, which start when first needed.

    Raises:
        ValueError: if an expected answer is empty, the mode is unknown, or math-verify is not installed.
        RuntimeError: if a worker process cannot be started.
    """
    if mode not in get_args(Mode):
        raise ValueError(f"unknown grading mode {mode!r}: choose from {', '.join(get_args(Mode))}")
    if any(not item.answer.strip() for item in items):
        raise ValueError("the expected answer is empty: nothing can be graded against it")
    if second_opinion:
        require_math_verify()
    found = [_EXTRACT[mode](item.response) for item in items]
    verdicts = [_match(mode, given, item) for (given, _), item in zip(found, items, strict=True)]
    replies = _decide(verdicts, seconds, pool)
    opinions: list[float | None] = [None] * len(items)
    if second_opinion:
        others = _decide([Request(MATH_VERIFY, item.response, item.answer) for item in items], seconds, pool)
        opinions = [None if other.note else float(other.verdict) for other in others]
    return [
        Verdict(
            float(reply.verdict),
            float(follows_format(item.response, prompt_opens_think=prompt_opens_think)),
            given if where else None,
            mode,
            where,
            opinion,
            reply.note,
        )
        for item, (given, where), reply, opinion in zip(items, found, replies, opinions, strict=True)
    ]


def _decide(verdicts: Sequence[bool | Request], seconds: float, pool: WorkerPool | None) -> list[Reply]:
    """Ask the workers what is still open, each question once."""
    # A group's rollouts often give the same answer.
    open_questions = list(dict.fromkeys(verdict for verdict in verdicts if isinstance(verdict, Request)))
    # Without questions no worker starts.
    answers = (pool or shared_pool()).ask(open_questions, seconds) if open_questions else []
    known = dict(zip(open_questions, answers, strict=True))
    return [known[verdict] if isinstance(verdict, Request) else Reply(verdict) for verdict in verdicts]


def _extract_like_mathruler(response: str) -> tuple[str, str]:
    given = boxed_content(response)
    # mathruler grades the word "None" when it finds no box; so do we, but we do not say that it was extracted.
    return given, "" if given == "None" else "boxed"


def _extract_strictly(response: str) -> tuple[str, str]:
    given = last_boxed(response)
    return ("", "") if given is None else (given, "boxed")


def _match(mode: Mode, given: str, item: Answered) -> bool | Request:
    """Return the verdict, or what a worker must be asked."""
    if mode == "mathruler":
        verdict = parity_here(given, item.answer)
        return Request(mode, given, item.answer) if verdict is None else verdict
    verdict = match_here(mode, given, item.answer, item.options)
    return Request(mode, given, item.answer, item.options) if verdict is None else verdict


_EXTRACT: dict[str, Callable[[str], tuple[str, str]]] = {
    "mathruler": _extract_like_mathruler,
    "strict": _extract_strictly,
    "lenient": find_answer,
}
