"""How much, and in which direction, each token is tutored: weights of tokens, and a gate over whole steps."""

from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ptdpo.algo.shapes import Bool, Float

Gate = Literal["none", "teacher_entropy", "student_entropy", "agreement", "position"]
# Gates that the teacher's reading decides alone: the weights of a whole step are known before the policy is scored.
READ_GATES: tuple[Gate, ...] = ("teacher_entropy", "position")
_LEAST_DEVIATION = 1e-6


class GatedTokens(NamedTuple):
    """What gates look at, for n tutored tokens; ``None``: no gate of the run looks at it.

    Attributes:
        teacher_entropy: [n], H(q) in nats.
        student_entropy: [n], H(p) in nats.
        log_ratio: [n], log q - log p of the sampled token.
        position: [n], how far into its response a token stands, from 0 to below 1.
    """

    teacher_entropy: Float[Tensor, " n"] | None = None
    student_entropy: Float[Tensor, " n"] | None = None
    log_ratio: Float[Tensor, " n"] | None = None
    position: Float[Tensor, " n"] | None = None


@dataclass(frozen=True, slots=True)
class TokenGate:
    """The weight of each tutored token.

    Attributes:
        kind: ``none``: 1; ``teacher_entropy`` and ``student_entropy``: exp(-sharpness H), a surer side weighs more
            (SRPO); ``agreement``: 1 / (1 + (p / q)^sharpness) of the sampled token (SDAR); ``position``:
            exp(-sharpness t / T), earlier tokens weigh more. A negative sharpness turns each round.
        sharpness: beta.
        threshold: with an entropy, the weight of tokens whose entropy is above it is multiplied by ``above``.
        above: negative, such tokens are pushed away from the teacher (DASD).
        normalised: the weights of an optimiser step have the mean 1.
    """

    kind: Gate = "none"
    sharpness: float = 1.0
    threshold: float | None = None
    above: float = 0.0
    normalised: bool = False

    @property
    def reads_teacher_entropy(self) -> bool:
        """Return whether the teacher's entropy is needed."""
        return self.kind == "teacher_entropy"

    def weights(self, tokens: GatedTokens) -> Float[Tensor, " n"] | None:
        """Return [n] without gradient, before normalisation; ``None``: all are 1."""
        if self.kind == "none":
            return None
        seen = {
            "teacher_entropy": tokens.teacher_entropy,
            "student_entropy": tokens.student_entropy,
            "agreement": tokens.log_ratio,
            "position": tokens.position,
        }[self.kind]
        assert seen is not None, "what the gate looks at was not kept"
        seen = seen.detach()
        if self.kind == "agreement":
            return torch.sigmoid(self.sharpness * seen)
        weights = (-self.sharpness * seen).exp()
        return weights if self.threshold is None else torch.where(seen > self.threshold, self.above * weights, weights)


def positions(mask: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    """Return [B, T], t / T of each token of a response, counted from 0 over the tokens of its mask."""
    count = mask.sum(dim=1, keepdim=True).clamp_min(1)
    return (mask.cumsum(dim=1) - 1).clamp_min(0) / count


@dataclass(frozen=True, slots=True)
class EvidenceGate:
    """The weight of each tutored rollout, by how well it stands on what the teacher is shown (V-Zero).

    w = clip(1 + alpha z, 0, most), where z is the rollout's score among those of its group: (s - mean) / (deviation +
    1e-6), the deviation with n; 0 for a rollout alone. Its score s is the mean over its tokens of max(e, 0) - gamma
    max(-e, 0), and e how much more the teacher expects a token than when it reads the contrast, in nats.

    Attributes:
        strength: alpha; 0: every weight is 1.
        penalty: gamma, what tokens cost that the contrast expects more.
        most: largest weight.
    """

    strength: float = 0.0
    penalty: float = 1.0
    most: float = 2.0

    def score(self, evidence: Float[Tensor, " n"]) -> float:
        """Return s of one rollout."""
        evidence = evidence.detach().double()
        return (evidence.clamp_min(0.0) - self.penalty * (-evidence).clamp_min(0.0)).mean().item()

    def weights(self, scores: Float[Tensor, "groups rollouts"]) -> Float[Tensor, "groups rollouts"]:
        """Return the weights of rollouts; 1 where a score is NaN, which is none."""
        scored = ~scores.isnan()
        count = scored.sum(dim=1, keepdim=True).clamp_min(1)
        known = scores.where(scored, 0.0)
        centred = (known - known.sum(dim=1, keepdim=True) / count).where(scored, 0.0)
        deviation = (centred.square().sum(dim=1, keepdim=True) / count).sqrt()
        return (1.0 + self.strength * centred / (deviation + _LEAST_DEVIATION)).clamp(0.0, self.most).where(scored, 1.0)


@dataclass(frozen=True, slots=True)
class FloorSettings:
    """When an ``EntropyFloor`` closes and opens.

    Attributes:
        close: share of the first entropy.
        reopen: share of it, at least ``close``.
        warm_up: steps that measure it.
    """

    close: float
    reopen: float
    warm_up: int


@dataclass
class EntropyFloor:
    """Opens and closes tutoring by how sure the teacher is, step by step (AntiSD).

    H_0 is the teacher's mean entropy over the tutored tokens of the first ``warm_up`` steps that tutor any, in which
    it is closed. Then it is open until a step's entropy falls below ``close`` H_0, and again once one is at least
    ``reopen`` H_0.

    Attributes:
        settings: its three numbers.
        first: the entropies of the warm-up.
        is_open: at the latest step.
    """

    settings: FloorSettings
    first: list[float] = field(default_factory=list)
    is_open: bool = False

    def step(self, entropy: float) -> bool:
        """Return whether a step is tutored whose teacher has this mean entropy."""
        settings = self.settings
        if len(self.first) < settings.warm_up:
            self.first.append(entropy)
            # Open from the first step after the warm-up, unless that one closes it.
            self.is_open = len(self.first) == settings.warm_up
            return False
        least = (settings.close if self.is_open else settings.reopen) * fmean(self.first)
        self.is_open = entropy >= least
        return self.is_open
