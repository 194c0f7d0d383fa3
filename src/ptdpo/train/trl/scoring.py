"""The bridge between TRL's scoring call and the scoring head.

TRL slices a batch (images of every model family included) and calls ``model(**inputs, labels=..,
fused_lm_head=True)``. ``ScoringModel`` stands in for the model in that call, so the slicing stays TRL's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from ptdpo.algo.lm_head import concatenate
from ptdpo.models.family import without_empty_images
from ptdpo.tutor.head import Divergence, HeadName, HeadWeights, ScoredTokens, ScoreRequest, TeacherView
from ptdpo.tutor.teacher import TeacherReading

IGNORED = -100


@dataclass(frozen=True, slots=True)
class ScoredAgainst:
    """With what a micro-batch is compared while it is scored.

    Attributes:
        divergence: how.
        readings: what the teacher left, one per row.
        head: the teacher's.
        tutored: [B, T] bool, the tokens that the teacher read.
    """

    divergence: Divergence
    readings: Sequence[TeacherReading]
    head: HeadWeights
    tutored: Tensor

    def view(self, rows: slice, mask: Tensor) -> TeacherView | None:
        """Return what the teacher left for some rows, of mask [B, T]; ``None`` if it read none of them."""
        readings = self.readings[rows]
        read = [reading.teacher for reading in readings if reading.teacher is not None]
        if not read:
            return None
        return TeacherView(self.tutored[rows] & mask, concatenate(read).to(mask.device).with_head(*self.head))


@dataclass(frozen=True, slots=True)
class KLFree:
    """Rows of a micro-batch that have no reference KL.

    Attributes:
        reference: [B, T], log pi_ref, a copy that may be written to.
        rows: [B] bool.
    """

    reference: Tensor
    rows: Tensor

    def overwrite(self, log_probs: Tensor) -> None:
        """Make reference and policy agree: there k3 and its gradient vanish."""
        self.reference[self.rows] = log_probs.detach()[self.rows]


@dataclass(frozen=True, slots=True)
class Credited:
    """Advantages of tokens, which are known when the tokens are scored.

    Attributes:
        advantages: [B, T], written to.
        of_tokens: from log-probabilities [B, T] to them.
    """

    advantages: Tensor
    of_tokens: Callable[[Tensor], Tensor]

    def overwrite(self, log_probs: Tensor) -> None:
        """Put them in place, without gradient."""
        self.advantages.copy_(self.of_tokens(log_probs.detach()))


@dataclass
class ScoringModel:
    """Calls the wrapped model with a ``ScoreRequest`` and answers in the shape of TRL's fused head.

    Attributes:
        model: the model, wrapped for its engine or not, carrying ``add_scoring_head``.
        response_length: T.
        temperature: the sampling temperature.
        compared: the teacher, ``None``: nothing is compared.
        overwritten: what TRL's code reads of a batch after scoring, and is known only then.
        head: who scores, see ``ScoreRequest``.
        leading: [B, T] bool, where leading tokens are wanted; ``None``: nowhere.
        scored: what the calls returned, in order.
    """

    model: Any
    response_length: int
    temperature: float
    compared: ScoredAgainst | None = None
    overwritten: list[KLFree | Credited] = field(default_factory=list)
    head: HeadName = "fused"
    leading: Tensor | None = None
    scored: list[ScoredTokens] = field(default_factory=list)
    _next_row: int = 0

    def __call__(self, *, labels: Tensor, fused_lm_head: bool, **inputs: Any) -> SimpleNamespace:
        """Score one slice; slices come in row order."""
        response_ids = labels[:, -self.response_length :]
        mask = response_ids != IGNORED
        rows = slice(self._next_row, self._next_row + labels.size(0))
        self._next_row = rows.stop
        request = ScoreRequest(
            response_ids.masked_fill(~mask, 0),
            mask,
            self.temperature,
            None if self.compared is None else self.compared.view(rows, mask),
            Divergence() if self.compared is None else self.compared.divergence,
            self.head,
            None if self.leading is None else self.leading[rows],
        )
        scored: ScoredTokens = self.model(**without_empty_images(inputs), score=request)
        self.scored.append(scored)
        details = scored.details
        return SimpleNamespace(log_probs=scored.log_probs, entropy=details.entropy, aux_loss=details.expert_balance)
