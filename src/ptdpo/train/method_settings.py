"""The method's settings as records, one per part; ``None`` where a part is off. What each means: ``PTDConfig``."""

import math
from dataclasses import dataclass, field
from typing import Literal

from ptdpo.algo.gates import EvidenceGate, FloorSettings, TokenGate
from ptdpo.algo.objectives import Estimator, Sampled, Schedule, Use
from ptdpo.algo.routing import Select
from ptdpo.data.teacher_images import ImagesShown
from ptdpo.tutor.contrast import Contrast
from ptdpo.tutor.head import Divergence


@dataclass(frozen=True, slots=True)
class ShiftSettings:
    """How ``use=shift`` moves advantages of tokens.

    Attributes:
        scale: tau.
        least: delta.
        apart: the tokens whose advantage is moved have a mean of their own, and so have all others.
    """

    scale: float = 0.02
    least: float = 0.02
    apart: bool = False


@dataclass(frozen=True, slots=True)
class TutoringSettings:
    """The settings ``tutoring_*`` that do not say whose weights teach, without that prefix."""

    weight: float = 0.5
    schedule: Schedule = "constant"
    context: str = "hint"
    images: ImagesShown = "question"
    threshold: float = 1.0
    select: Select = "failed"
    rollouts: Literal["student", "teacher"] = "student"
    divergence: Divergence = field(default_factory=Divergence)
    use: Use = "loss"
    sampled: Sampled = "log_ratio"
    most_sampled: float = math.inf
    standardised: bool = False
    gate: TokenGate = field(default_factory=TokenGate)
    evidence_gate: EvidenceGate = field(default_factory=EvidenceGate)
    floor: FloorSettings | None = None
    keep_rl: bool = True
    reweight_clip: float = 0.2
    shift: ShiftSettings = field(default_factory=ShiftSettings)
    contrast: Contrast = "none"
    contrast_siblings: int = 4
    ratio_clip: float | None = None
    mean: Literal["tutored", "all"] = "tutored"
    keep_kl: bool = True
    teacher_on_cpu: bool = False

    @property
    def compares_supports(self) -> bool:
        """Return whether there is a support: neither the full vocabulary nor sampled tokens have overlap and tails."""
        return self.divergence.support != "full" and self.use == "loss"


@dataclass(frozen=True, slots=True)
class PerceptionSettings:
    """PAPO's settings.

    Attributes:
        weight: gamma.
        entropy_weight: eta_1.
        masked_entropy_weight: eta_2.
        masked: ``current`` or ``rollout``.
        estimator: ``paper`` or ``code``.
        mask_share: share of patches that are blackened.
        patch: side of a patch in pixels.
        over: what a mean is taken over, as the policy loss does: ``responses`` (3), or ``tokens`` of the step (DAPO).
        seed: of the masks.
    """

    weight: float = 0.0
    entropy_weight: float = 0.0
    masked_entropy_weight: float = 0.0
    masked: Literal["current", "rollout"] = "current"
    estimator: Estimator = "paper"
    mask_share: float = 0.6
    patch: int = 14
    over: Literal["responses", "tokens"] = "responses"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ResamplingSettings:
    """DAPO's dynamic sampling.

    Attributes:
        rounds: how often uninformative groups are exchanged.
        kept_context: groups that fail as a whole are kept where the teacher has this to read; ``None``: nowhere.
        kept_columns: of images, which must be there too.
        seed: of the draws.
    """

    rounds: int
    kept_context: str | None = None
    kept_columns: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class HintedSettings:
    """Hints in the student's own rollouts (Scaf-GRPO).

    Attributes:
        count: so many rollouts of a group give way to right ones.
        scored: under which prompt these are scored, the question or the hinted one.
        after: optimiser steps that are made without.
    """

    count: int
    scored: Literal["question", "hint"] = "question"
    after: int = 0


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """How much of a run is kept in its records, by each process.

    Attributes:
        steps: every so many steps.
        groups: of a batch of rollouts, over all processes.
        tokens: of a batch of rollouts, token by token.
    """

    steps: int = 1
    groups: int = 16
    tokens: int = 512


@dataclass(frozen=True, slots=True)
class MethodSettings:
    """All of them.

    Attributes:
        records: what is kept; ``None``: nothing.
        rl_weight: factor on the advantages.
        leave_one_out: baseline of an advantage without the rollout itself.
    """

    tutoring: TutoringSettings | None = None
    perception: PerceptionSettings | None = None
    resampling: ResamplingSettings | None = None
    hinted: HintedSettings | None = None
    records: RecordSettings | None = None
    rl_weight: float = 1.0
    leave_one_out: bool = False
