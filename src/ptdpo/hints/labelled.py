"""The labelled hints that ship with the package, and how well the rules agree with them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Literal

from ptdpo.data.files import read_jsonl
from ptdpo.hints.quality import REASONS, HintVerdict, check_hint
from ptdpo.records import Hint, Problem

Part = Literal["development", "held_out"]


@dataclass(frozen=True, slots=True)
class LabelledHint:
    """A hint with a person's judgement: ``why`` names what is wrong with it and is empty for a good one."""

    problem: Problem
    kind: str
    hint: Hint
    why: str


@dataclass(frozen=True, slots=True)
class Score:
    """How the rules did on one reason, or on good hints.

    Attributes:
        reason: a reason, or ``good``.
        labelled: hints labelled so.
        rejected: of those, rejected for any reason.
        named: of those, rejected for this very reason.
        flagged: hints of any label that were given this reason.
        flagged_bad: of those, hints that are bad for whatever reason.
    """

    reason: str
    labelled: int
    rejected: int
    named: int
    flagged: int
    flagged_bad: int

    @property
    def recall(self) -> float:
        """Share of the hints with this label that were rejected with this reason; undefined for good ones."""
        return self.named / self.labelled if self.labelled and self.reason != "good" else float("nan")

    @property
    def precision(self) -> float:
        """Share of the hints given this reason that are bad: a solution may also hold the answer."""
        return self.flagged_bad / self.flagged if self.flagged else float("nan")

    @property
    def rejection(self) -> float:
        """Share of the hints with this label that were rejected for any reason."""
        return self.rejected / self.labelled if self.labelled else float("nan")


def load_labelled(part: Part) -> list[LabelledHint]:
    """Return the labelled hints of a part; the held-out part must not be used to change a rule."""
    with as_file(files("ptdpo.hints") / "labels" / f"{part}.jsonl") as path:
        return [_labelled(row) for _, row in read_jsonl(path)]


def _labelled(row: dict) -> LabelledHint:
    problem = Problem(row["id"], tuple(row["images"]), row["problem"], row["answer"], row["kind"])
    return LabelledHint(problem, row["kind"], Hint(**row["hint"]), row["why"])


def score(labelled: Iterable[LabelledHint]) -> list[Score]:
    """Return one score per reason and one for the good hints, in this order."""
    judged = [(item, check_hint(item.problem, item.hint)) for item in labelled]
    return [_score(reason, judged) for reason in (*REASONS, "good")]


def _score(reason: str, judged: Sequence[tuple[LabelledHint, HintVerdict]]) -> Score:
    label = "" if reason == "good" else reason
    own = [verdict for item, verdict in judged if item.why == label]
    flagged = [item for item, verdict in judged if reason in verdict.names]
    return Score(
        reason=reason,
        labelled=len(own),
        rejected=sum(not verdict.ok for verdict in own),
        named=sum(reason in verdict.names for verdict in own),
        flagged=len(flagged),
        flagged_bad=sum(bool(item.why) for item in flagged),
    )
