"""What is added to the policy loss: one module per term, each with a denominator of its own."""

from typing import Protocol

from torch import Tensor

from ptdpo.train.engine import MicroBatch
from ptdpo.train.step import OptimiserStep
from ptdpo.tutor.head import ScoredTokens


class Term(Protocol):
    """A term of the loss."""

    def loss(self, micro: MicroBatch, scored: ScoredTokens, step: OptimiserStep) -> Tensor | None:
        """Return the micro-batch's part of the term, weighted; ``None`` if it has none.

        Args:
            micro: what is trained on.
            scored: the current policy there, with gradient.
            step: the optimiser step that it belongs to.
        """
        ...
