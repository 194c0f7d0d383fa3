"""The state of one optimiser step."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ptdpo.tutor.head import ScoreDetails


@dataclass
class TutoringSums:
    """Sums over the tutored tokens that this process trained on in an optimiser step."""

    tokens: int = 0
    divergence: float = 0.0
    overlap: float = 0.0
    student_tail: float = 0.0
    teacher_tail: float = 0.0

    def add(self, scored: ScoreDetails) -> None:
        """Add one micro-batch."""
        if scored.divergence is None or scored.divergence.numel() == 0:
            return
        self.tokens += scored.divergence.numel()
        self.divergence += scored.divergence.detach().sum().item()
        self.overlap += _total(scored.overlap)
        self.student_tail += _total(scored.student_tail)
        self.teacher_tail += _total(scored.teacher_tail)

    def as_tensor(self, device: torch.device) -> Tensor:
        """Return the sums in field order, for one reduction over all processes."""
        values = [self.tokens, self.divergence, self.overlap, self.student_tail, self.teacher_tail]
        return torch.tensor(values, dtype=torch.float32, device=device)


def _total(values: Tensor | None) -> float:
    return 0.0 if values is None else values.sum().item()


@dataclass
class OptimiserStep:
    """What an optimiser step knows of itself while its micro-batches are trained on.

    Attributes:
        tutored_tokens: |F| of (11), over all of its micro-batches and processes.
        gate_scale: factor on the weights of tokens, so that their mean is 1 where that is asked for.
        is_open: the step is tutored; an entropy floor may close it.
        teacher_entropy: mean over its tutored tokens; ``None``: nobody reads it.
        moved: tokens whose advantage is moved, over all micro-batches and processes; ``None``: nobody counts them.
        moved_scale: factor on their advantages, which makes their part of the loss a mean over them.
        unmoved_scale: factor on those of the other tokens that the teacher read.
        sums: of what was trained on so far, for logging.
    """

    tutored_tokens: int = 0
    gate_scale: float = 1.0
    is_open: bool = True
    teacher_entropy: float | None = None
    moved: float | None = None
    moved_scale: float = 1.0
    unmoved_scale: float = 1.0
    sums: TutoringSums = field(default_factory=TutoringSums)
