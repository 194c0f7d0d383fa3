"""Overlap of student's and teacher's leading tokens, and the mass outside them, by kind of token; from the records.

The records keep five tokens of each, so this is the overlap of the Top-5, and less. The tutored Top-K of a run itself
(K = 100) is what ``topk_overlap`` and ``tail_mass`` in its metrics say.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ptdpo.analysis.result import Analysis, mean, plot, plotted, said, unread
from ptdpo.report.curves import COLOURS
from ptdpo.report.run_view import RunView
from ptdpo.runlog.lines import LEADING, Leading, TokenLine

KINDS = ("number", "region word", "connective", "other")
_REGIONS = frozenset((
    "left", "right", "top", "bottom", "upper", "lower", "middle", "centre", "center", "corner", "row", "column",
    "above", "below", "first", "second", "third", "last", "inside", "outside", "beside", "between", "around",
    "edge", "side",
))  # fmt: skip
_CONNECTIVES = frozenset((
    "so", "but", "because", "then", "thus", "therefore", "however", "since", "if", "and", "or", "as", "hence",
    "wait", "now", "also", "although", "while", "that", "which",
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReadToken:
    """One token that the teacher read.

    Attributes:
        kind: one of ``KINDS``.
        overlaps: for K = 1 ... 5, the share of the student's Top-K that the teacher's holds.
        tails: the student's and the teacher's mass outside their own Top-5.
        divergence: in nats, as trained.
    """

    kind: str
    overlaps: Sequence[float]
    tails: tuple[float, float]
    divergence: float


def kind_of(text: str) -> str:
    """Return which kind of token a text is; digits make a number, words are looked up in short English lists."""
    word = text.strip().lower()
    if any(char.isdigit() for char in word):
        return "number"
    word = re.sub(r"\W", "", word)
    return "region word" if word in _REGIONS else "connective" if word in _CONNECTIVES else "other"


def overlap(runs: Sequence[RunView]) -> Analysis:
    """Return mean overlap, tail masses and divergence of each kind of token.

    Raises:
        ValueError: if a run has no token that a teacher read.
    """
    figure, axes = plot()
    rows, sentences = [], []
    for number, run in enumerate(runs):
        tokens = [token for line in run.records.tokens.values() for token in compared_tokens(line)]
        if not tokens:
            raise ValueError(f"{run.name}: no recorded token was read by a teacher; does it tutor?{unread(run)}")
        for kind in (*KINDS, "all"):
            own = [token for token in tokens if kind in (token.kind, "all")]
            if own:
                rows.append([run.name, kind, len(own), *_means(own)])
        curve = [mean([token.overlaps[k] for token in tokens]) for k in range(LEADING)]
        axes.plot(range(1, LEADING + 1), plotted(curve), "o-", color=COLOURS[number % len(COLOURS)], label=run.name)
        shared, tails = mean([token.overlaps[-1] for token in tokens]), mean([token.tails[1] for token in tokens])
        sentences.append(
            f"{run.name}: student and teacher share {said(shared)} of their Top-{LEADING}, outside of which the "
            f"teacher has {said(tails, 5)} of its mass"
        )
    axes.set(xlabel="K", ylabel="overlap of the Top-K sets", xticks=range(1, LEADING + 1), ylim=(0, 1.02))
    axes.legend(frameon=False, loc="lower right")
    columns = ["run", "kind", "tokens", "overlap@1", f"overlap@{LEADING}", "student tail", "teacher tail", "divergence"]
    return Analysis("overlap", "; ".join(sentences) + ".", columns, rows, figure)


def compared_tokens(line: TokenLine) -> Iterator[ReadToken]:
    """Yield the tokens of a rollout at which student and teacher are both known."""
    if line.student is None or line.teacher is None or line.divergence is None:
        return
    for place, (one, nats) in enumerate(zip(line.ids, line.divergence, strict=True)):
        student, teacher = line.student.ids[place], line.teacher.ids[place]
        overlaps = [len(set(student[:k]) & set(teacher[:k])) / min(k, len(student)) for k in range(1, LEADING + 1)]
        tails = _tail(line.student, place), _tail(line.teacher, place)
        yield ReadToken(kind_of(line.texts.get(str(one), "")), overlaps, tails, nats)


def _tail(leading: Leading, place: int) -> float:
    return max(0.0, 1.0 - sum(leading.probs[place]))


def _means(tokens: Sequence[ReadToken]) -> list[float | None]:
    return [
        mean([token.overlaps[0] for token in tokens]),
        mean([token.overlaps[-1] for token in tokens]),
        mean([token.tails[0] for token in tokens]),
        mean([token.tails[1] for token in tokens]),
        mean([token.divergence for token in tokens]),
    ]
