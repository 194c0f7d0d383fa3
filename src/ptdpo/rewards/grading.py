"""Does a response give the expected answer? Two ways to say so, neither of which can hang or run what a model wrote."""

from collections.abc import Sequence
from typing import get_args

from ptdpo.records import Answered, Verdict
from ptdpo.records import Grading as Mode
from ptdpo.rewards.compare import UndecidedError, match, names_another
from ptdpo.rewards.extraction import Found, follows_format
from ptdpo.rewards.fallbacks import find_answer
from ptdpo.rewards.judges import MATH_VERIFY, MATHRULER, SYMBOLIC
from ptdpo.rewards.parity import boxed_content, parity_here
from ptdpo.rewards.pool import BATCH_SECONDS, SECONDS, Reply, Request, WorkerPool, shared_pool

_GONE = ("strict", "lenient")


def check_mode(mode: str, where: str = "grading") -> Mode:
    """Return a grading mode.

    Raises:
        ValueError: if there is none of that name; names ``where`` it was given.
    """
    for known in get_args(Mode):
        if mode == known:
            return known
    became = "; strict and lenient became sound" if mode in _GONE else ""
    raise ValueError(f"{where}: unknown grading {mode!r}: choose from {', '.join(get_args(Mode))}{became}")


def grade(
    response: str,
    answer: str,
    *,
    options: Sequence[str] = (),
    mode: Mode = "sound",
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
    mode: Mode = "sound",
    seconds: float = SECONDS,
    batch_seconds: float = BATCH_SECONDS,
    second_opinion: bool = False,
    prompt_opens_think: bool = True,
    thinking_is_open: bool = False,
    pool: WorkerPool | None = None,
) -> list[Verdict]:
    """Grade responses, in order.

    What needs symbolic mathematics is decided in worker processes; the rest, which is nearly all, here.

    Args:
        items: the responses.
        mode: "sound" reads what kind of answer is expected and compares within that kind (see ``rewards.compare``).
            "mathruler" gives what ``mathruler.grade_answer(extract_boxed_content(response), answer)`` gives, for
            figures comparable with published ones.
        seconds: time limit per answer; a later one is wrong, with a note.
        batch_seconds: time limit of all that workers decide: what is still late then is wrong, with a note, and the
            others are graded.
        second_opinion: also ask math-verify, see ``Verdict.second``.
        prompt_opens_think: see ``follows_format``; concerns the format alone.
        thinking_is_open: the prompt ends with <think>, so that a response without </think> is an unfinished thinking
            and has no answer. One that opens a thinking and never ends it has none in any case. For "sound".
        pool: the workers; ``None`` for this process's own, which start when first needed.

    Raises:
        ValueError: if an expected answer is empty or the mode is unknown.
        RuntimeError: if a worker process cannot be started.
    """
    check_mode(mode)
    if any(not item.answer.strip() for item in items):
        raise ValueError("the expected answer is empty: nothing can be graded against it")
    if mode == "mathruler":
        found = [_like_mathruler(item.response) for item in items]
        open_or_not = [_by_parity(one.text, item) for one, item in zip(found, items, strict=True)]
    else:
        found = [find_answer(item.response, prompt_opens_think=thinking_is_open) for item in items]
        open_or_not = [_soundly(one, item) for one, item in zip(found, items, strict=True)]
    replies = _decide(open_or_not, seconds, batch_seconds, pool)
    opinions: list[float | None] = [None] * len(items)
    if second_opinion:
        asked = [Request(MATH_VERIFY, item.response, item.answer) for item in items]
        opinions = [None if r.note else float(r.verdict) for r in _decide(asked, seconds, batch_seconds, pool)]
    return [
        Verdict(
            float(reply.verdict),
            float(follows_format(item.response, prompt_opens_think=prompt_opens_think)),
            one.text if one.place else None,
            mode,
            one.place,
            opinion,
            reply.note or one.note,
        )
        for item, one, reply, opinion in zip(items, found, replies, opinions, strict=True)
    ]


def _decide(
    verdicts: Sequence[bool | Request], seconds: float, batch_seconds: float, pool: WorkerPool | None
) -> list[Reply]:
    """Ask the workers what is still open, each question once."""
    # A group's rollouts often give the same answer.
    open_questions = list(dict.fromkeys(verdict for verdict in verdicts if isinstance(verdict, Request)))
    # Without questions no worker starts.
    answers = (pool or shared_pool()).ask(open_questions, seconds, batch_seconds) if open_questions else []
    known = dict(zip(open_questions, answers, strict=True))
    return [known[verdict] if isinstance(verdict, Request) else Reply(verdict) for verdict in verdicts]


def _like_mathruler(response: str) -> Found:
    given = boxed_content(response)
    # mathruler grades the word "None" when it finds no box; so do we, but we do not say that it was extracted.
    return Found(given, "" if given == "None" else "boxed")


def _by_parity(given: str, item: Answered) -> bool | Request:
    verdict = parity_here(given, item.answer)
    return Request(MATHRULER, given, item.answer) if verdict is None else verdict


def _soundly(given: Found, item: Answered) -> bool | Request:
    try:
        right = match(given.text, item.answer, item.options)
        return right and not names_another(given.text, given.rest, item.options)
    except UndecidedError:
        return Request(SYMBOLIC, given.text, item.answer)
    except RecursionError:
        # Deeper than any answer.
        return False
