"""What a run's numbers say in words: what is wrong, what shows it, what to do. Thresholds are rules of thumb."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ptdpo.records import Answered
from ptdpo.report.run_view import LAST, RunView
from ptdpo.rewards.choices import read_options
from ptdpo.rewards.grading import grade_many

# Fewer steps than this say nothing of a trend.
FEW_STEPS = 5
NO_SIGNAL, FLAT, COLLAPSED, SHORT, TRUNCATED, DISAGREE, MISMATCH = 0.8, 0.005, 0.2, 0.5, 0.1, 0.05, 0.1
MOST_REREAD = 300


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that stands out.

    Attributes:
        kind: a short name, also that of the row in docs/report.md.
        weight: ``warning``, or ``note``.
        says: in one sentence.
        evidence: the numbers.
        remedy: what to do.
    """

    kind: str
    weight: Literal["warning", "note"]
    says: str
    evidence: str
    remedy: str


def diagnose(run: RunView) -> list[Finding]:
    """Return what stands out in a run, warnings first; nothing where the numbers show nothing."""
    found = [finding for rule in RULES for finding in rule(run)]
    return sorted(found, key=lambda finding: finding.weight == "note")


def _not_finite(run: RunView) -> Iterator[Finding]:
    bad = sorted({key for row in run.metrics for key, value in row.items() if _bad(value)})
    if bad:
        first = next(int(row["step"]) for row in run.metrics if any(_bad(value) for value in row.values()))
        yield Finding(
            "loss NaN", "warning", "Numbers are not finite.", f"{', '.join(bad[:6])}, first at step {first}",
            "Lower the learning rate, train in bfloat16 in place of float16, and look at the rollouts of that step.",
        )  # fmt: skip


def _no_signal(run: RunView) -> Iterator[Finding]:
    tutors = sum(run.values("tutored/rollouts")) > 0
    failing = (
        "The policy gradient learns nothing from them, tutoring does: if accuracy/tutored_groups stays, look at "
        "the hints, take easier questions, or more rollouts each."
        if tutors
        else "GRPO learns nothing from them: tutor (preset ptd-grpo), take easier questions, or more rollouts each."
    )
    for key, what, remedy in (
        ("groups/all_fail", "fail as a whole", failing),
        ("groups/all_pass", "are right as a whole",
         "Nothing is left to learn from them: take harder questions, or resample (preset dapo)."),
    ):  # fmt: skip
        values = run.values(key)[-LAST:]
        if values and _mean(values) >= NO_SIGNAL:
            yield Finding(
                "no signal", "warning", f"Most groups {what}.",
                f"{key} is {_mean(values):.2f} over the last {len(values)} steps", remedy,
            )  # fmt: skip


def _flat_teacher(run: RunView) -> Iterator[Finding]:
    values = run.values("divergence")
    tutored = run.values("tutored/tokens")
    if values and sum(tutored) > 0 and _mean(values[-LAST:]) < FLAT:
        yield Finding(
            "divergence flat", "warning", "The teacher is no better than the student: the two hardly differ.",
            f"mean divergence {_mean(values[-LAST:]):.5f} nats on tutored tokens, {values[0]:.5f} at the start",
            "Look at hints in the viewer: do they say what the failed rollouts miss? Measure them with "
            "`ptdpo hints usefulness`, or show the teacher more (tutoring_context=solution).",
        )  # fmt: skip
    if tutored and sum(tutored) == 0:
        yield Finding(
            "nothing tutored", "warning", "No rollout was ever tutored.", "tutored/tokens is 0 at every step",
            "Rows need what tutoring_context names (ptdpo data check), and rollouts have to fail.",
        )  # fmt: skip


def _hints(run: RunView) -> Iterator[Finding]:
    seen: dict[tuple[str, str], list[float]] = {}
    for group in run.records.groups.values():
        graded = [r.accuracy for r in group.rollouts if r.accuracy is not None]
        if graded and (any(r.tutored for r in group.rollouts) or (group.id, group.hint_id) in seen):
            seen.setdefault((group.id, group.hint_id), []).append(_mean(graded))
    often = {key: values for key, values in seen.items() if len(values) >= 3}
    idle = [key for key, values in often.items() if max(values) == 0]
    if idle and len(idle) >= 0.2 * len(often):
        names = ", ".join(f"{one} ({hint or 'no hint'}, {len(often[one, hint])} times)" for one, hint in idle[:8])
        yield Finding(
            "hints do not help", "warning" if len(idle) >= 0.5 * len(often) else "note",
            f"{len(idle)} of {len(often)} questions that were tutored and came back at least three times never "
            "had a right rollout.", names,
            "Read these hints in the viewer (filter by id); rewrite or drop them (ptdpo hints review).",
        )  # fmt: skip


def _collapse(run: RunView) -> Iterator[Finding]:
    for key, share, kind, remedy in (
        ("entropy", COLLAPSED, "entropy collapse",
         "Raise beta or the temperature, lower the learning rate or lambda; forward_kl keeps more modes."),
        ("completions/mean_length", SHORT, "length collapse",
         "Read short responses in the viewer: is reasoning skipped? Keep the reference KL (beta), lower lambda."),
    ):  # fmt: skip
        values = run.values(key)
        if len(values) < 2 * FEW_STEPS:
            continue
        size = min(LAST, len(values) // 2)
        first, last = _mean(values[:size]), _mean(values[-size:])
        if first > 0 and last < share * first:
            yield Finding(
                kind, "warning", f"{key} fell to {100 * last / first:.0f} % of what it was.",
                f"{first:.3g} over the first {size} steps, {last:.3g} over the last", remedy,
            )  # fmt: skip


def _truncated(run: RunView) -> Iterator[Finding]:
    values = run.values("completions/clipped_ratio")[-LAST:]
    if values and _mean(values) > TRUNCATED:
        yield Finding(
            "truncated responses", "warning", "Many responses are cut off before they end, and count as wrong.",
            f"completions/clipped_ratio is {_mean(values):.2f} over the last {len(values)} steps",
            "Raise max_completion_length, or punish length softly (overlong_buffer).",
        )  # fmt: skip


def _careful_reader(run: RunView) -> Iterator[Finding]:
    graded = [
        (group, rollout, question)
        for group in run.records.groups.values()
        if (question := run.records.question_of(group)) is not None and question.answer.strip()
        for rollout in group.rollouts
        if rollout.accuracy in (0.0, 1.0) and len(rollout.response) <= 20_000
    ]
    every = max(1, -(-len(graded) // MOST_REREAD))
    graded = graded[::every]
    if not graded:
        return
    verdicts = grade_many([Answered(r.response, q.answer, read_options(q.question)) for _, r, q in graded])
    other = [one for one, verdict in zip(graded, verdicts, strict=True) if verdict.accuracy != one[1].accuracy]
    if len(other) > DISAGREE * len(graded):
        places = ", ".join(f"step {g.step} id {g.id}: {r.extracted!r} for {q.answer!r}" for g, r, q in other[:4])
        yield Finding(
            "reward and reader disagree", "warning",
            f"A careful reader (ptdpo.grade) disagrees with the reward on {len(other)} of {len(graded)} "
            "recorded responses.", places,
            "Look at these in the viewer; where the reward is wrong, train with another reward or clean the answers.",
        )  # fmt: skip


def _mismatch(run: RunView) -> Iterator[Finding]:
    values = run.values("sampling/sampling_logp_difference/mean")[-LAST:]
    if values and _mean(values) > MISMATCH:
        yield Finding(
            "engine mismatch", "warning", "What samples and what trains give different probabilities.",
            f"sampling/sampling_logp_difference/mean is {_mean(values):.3f} nats over the last {len(values)} steps",
            "Use the same precision in both, and keep the importance-sampling correction on.",
        )  # fmt: skip


def _incomplete(run: RunView) -> Iterator[Finding]:
    if not run.records.groups:
        yield Finding(
            "no records", "note", "The run has no records: there are no rollouts to look at.",
            "records/ is missing or empty", "Runs of older versions kept none; since then record_steps=0 keeps none.",
        )  # fmt: skip
    if run.records.broken:
        yield Finding(
            "cut lines", "note", "Some lines of the records could not be read and are left out.",
            f"{run.records.broken} lines", "A kill, or a run in progress, leaves at most one per file.",
        )  # fmt: skip
    if 0 < len(run.metrics) < FEW_STEPS:
        yield Finding(
            "few steps", "note", "There are too few steps to say anything of trends.", f"{len(run.metrics)} steps",
            "Open the report again later.",
        )  # fmt: skip


RULES: Sequence[Callable[[RunView], Iterator[Finding]]] = (
    _not_finite, _no_signal, _flat_teacher, _hints, _collapse, _truncated, _careful_reader, _mismatch, _incomplete,
)  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _bad(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
