"""What the reference objective is told: settings of a loss, questions, responses, models and the shares of a step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from PIL import Image


@dataclass(frozen=True)
class Objective:
    """A preset as formulas; the fields are the columns of the table of presets."""

    sequence_ratio: bool = False
    low: float = 0.2
    high: float = 0.2
    highest: float = math.inf
    beta: float = 0.0
    token_mean: bool = False
    policy_gradient: bool = True
    scaled: bool = True
    leave_one_out: bool = False
    overlong: int = 0
    weight: float = 0.0
    teacher: str = "start"
    context: str = "hint"
    tutored: str = "failed"
    kind: str = "jsd"
    k: int | None = None
    support: str = "union"
    tail: str = "bucket"
    clip: float = math.inf
    ratio_clip: float | None = None
    sampled: bool = False
    reweighted: float | None = None
    shift_scale: float | None = None
    shift_least: float = 0.02
    shift_apart: bool = False
    contrast: str = "none"
    contrasts: int = 4
    images: str = "question"
    most_sampled: float = math.inf
    evidence_gate: float = 0.0
    evidence_penalty: float = 1.0
    evidence_most: float = 2.0
    bounded: bool = False
    standardised: bool = False
    gate: str = "none"
    sharpness: float = 1.0
    threshold: float = math.inf
    above: float = 0.0
    normalised: bool = False
    rl_on_tutored: bool = True
    mean_of_all: bool = False
    kl_on_tutored_groups: bool = True
    gap: float = 0.0
    gap_of_code: bool = False
    entropy: float = 0.0
    masked_entropy: float = 0.0
    masked_once: bool = False
    hinted: str = ""
    average_rate: float = 0.05
    average_interval: int = 1

    @property
    def credits(self) -> bool:
        """Whether advantages are redistributed over tokens."""
        return self.reweighted is not None or self.shift_scale is not None


@dataclass(frozen=True)
class Question:
    """What is known about a problem."""

    text: str
    image: Image.Image
    told: Mapping[str, str]
    teacher_image: Image.Image | None = None
    contrast_image: Image.Image | None = None


@dataclass(frozen=True)
class Row:
    """One response of a batch: its tokens, and what its group makes of it."""

    question: Question
    response: tuple[int, ...]
    advantage: float
    tutored: bool
    in_tutored_group: bool
    sibling: str = ""
    contrasts: tuple[str, ...] = ()
    asked: str = ""
    weight: float = 1.0
    hint: str = ""


@dataclass(frozen=True)
class Weights:
    """Four double-precision models: in training, at the rollout, at the start, teaching."""

    policy: torch.nn.Module
    old: torch.nn.Module
    start: torch.nn.Module
    teacher: torch.nn.Module


@dataclass(frozen=True)
class Step:
    """What the shares of a micro-batch are shares of.

    ``mean_tokens`` are those of a mean step of the generation, by which DAPO divides; ``compared_tokens`` the tutored
    tokens of this very step, |F| of (11), or with HDPO all of its response tokens; ``mean_weight`` what the weights of
    its tutored tokens are divided by; ``moved_scale`` and ``unmoved_scale`` make means of their own of tokens whose
    advantage moves, and of the others that the teacher reads.
    """

    micro_batches: int
    mean_tokens: float
    compared_tokens: int
    mean_weight: float = 1.0
    moved_scale: float = 1.0
    unmoved_scale: float = 1.0
