"""``PTDConfig``: TRL's GRPOConfig plus the tutoring term."""

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trl import GRPOConfig

from ptdpo.config import preset_settings
from ptdpo.train.setting_checks import check_combinations, check_ranges, typed_settings
from ptdpo.tutor.head import Divergence


@dataclass
class PTDConfig(GRPOConfig):
    """Settings of ``PTDTrainer``: everything of TRL's ``GRPOConfig``, with the method's defaults, and:

    Args:
        tutoring_weight: lambda of (12); 0 switches tutoring off, and training is TRL's own GRPO.
        tutoring_teacher: whose weights teach: frozen (the start), current, ema, or the path of another model.
        tutoring_ema_rate: how far the moving average goes towards the policy at each step.
        tutoring_context: what the teacher is shown besides the question: hint, question (nothing), answer,
            solution, or sibling (a right response of the same group, without its thinking).
        tutoring_threshold: tau of (8); 1.0 tutors every failed rollout.
        tutoring_select: which rollouts are tutored: failed or all of activated groups, all_fail_groups,
            with_sibling (another of the group is right), every.
        tutoring_divergence: jsd, forward_kl (teacher‖student) or reverse_kl (student‖teacher).
        tutoring_k: K of (14).
        tutoring_support: union, student, teacher, or full (the whole vocabulary; K and tail play no part).
        tutoring_clip: with full support, the most that one id of the vocabulary contributes.
        tutoring_ratio_clip: multiply each divergence by the detached ratio min(pi / pi_old, this).
        tutoring_tail: bucket (15), none (renormalised) or student (only the teacher is).
        tutoring_schedule: lambda over the run: constant, linear or cosine down to 0.
        tutoring_use: loss (the divergence is differentiated) or advantage (that of the sampled token is the detached
            log-ratio of teacher and student; divergence, support, tail and K play no part).
        tutoring_rollouts: student, or teacher: in groups that fail as a whole, responses drawn under the teacher's
            context take the place of the failed ones where they are right (HDPO).
        tutoring_mean: the divergences are divided by the number of tutored tokens (11), or of all response tokens.
        tutoring_keep_kl: keep the reference KL on groups that are tutored, as (12) has it.
        rl_weight: factor on the advantages; 0 leaves the reference KL and the tutoring term alone.
        leave_one_out: baseline of an advantage without the rollout itself: advantages times G / (G - 1).
        resampling_rounds: how often groups from which nothing is learnt are exchanged for those of other prompts
            before training goes on with what there is (DAPO); 0: never.
        overlong_buffer: the last so many tokens of ``max_completion_length`` cost up to 1 of reward, linearly (DAPO).
        perception_weight: gamma of PAPO, the reward for depending on the image.
        perception_entropy_weight: eta_1, which pushes the policy's entropy down.
        masked_entropy_weight: eta_2, which pushes the entropy under masked images down.
        perception_masked: score masked images in every update with gradient (current), or once without (rollout).
        perception_estimator: paper or code, see ``ptdpo.algo.objectives.perception``.
        perception_mask_share: share of patches that are blackened.
        perception_patch: side of a patch in pixels.
        accuracy_reward: name of the reward function that returns the accuracy in {0, 1} that routing reads; if none
            has the default name, the first is read.
        accuracy_threshold: from what value of that reward on a rollout is right; ``None``: it returns 0 and 1.
        teacher_batch_size: rollouts per teacher forward; ``None``: ``per_device_train_batch_size``.
        head: fused (``ptdpo.algo.lm_head``, holds no [tokens, vocabulary]) or dense (its readable reference).
        share_prefix: score the rows of a group from one packed row that holds prompt and images once, and keep
            groups together in micro-batches; ``None``: when tutoring. True does so without tutoring too, which is
            then TRL's GRPO up to rounding and the order of rollouts, no longer bit for bit.
        micro_batch_tokens: let policy and reference read at most so many tokens at once, in scoring and in training:
            each micro-batch is split into parts of whole groups; a group that exceeds the budget alone is read as a
            whole. The step is the same; only memory changes. For loss types grpo, dapo, dr_grpo. The teacher's
            forwards are bounded by ``teacher_batch_size``.
        teacher_on_cpu: keep what the teacher left in CPU memory between scoring and training.
        example_steps: write one tutored rollout token by token every so many steps; 0: never.
        ban_special_tokens: never sample a special token other than those that end a response. Small models
            sample image markers, and scoring then finds more image tokens than images.

    Raises:
        ValueError: on a setting of the wrong type or out of range, or one that breaks the normalisation of (11) or
            resuming.
    """

    learning_rate: float = field(default=1e-6, metadata={"help": "Initial learning rate (Table 3)."})
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay (Table 3)."})
    lr_scheduler_type: str = field(default="constant", metadata={"help": "Learning-rate schedule (Table 3)."})
    logging_steps: float = field(default=1, metadata={"help": "Log every step: metrics.jsonl has a line each."})
    beta: float = field(default=0.01, metadata={"help": "Weight of the reference KL (Table 3)."})
    loss_type: str = field(default="grpo", metadata={"help": "Mean over a response, then over responses (3)."})
    use_bias_correction_kl: bool = field(default=False, metadata={"help": "Plain k3 estimator, as in (3)."})

    tutoring_weight: float = field(default=0.5, metadata={"help": "lambda of (12); 0: no tutoring."})
    tutoring_teacher: str = field(default="frozen", metadata={"help": "frozen, current, ema or a path."})
    tutoring_ema_rate: float = field(default=0.05, metadata={"help": "Step of the moving average."})
    tutoring_context: str = field(default="hint", metadata={"help": "hint, question, answer, solution or sibling."})
    tutoring_threshold: float = field(default=1.0, metadata={"help": "tau of (8)."})
    tutoring_select: str = field(default="failed", metadata={"help": "failed, all, all_fail_groups, ..."})
    tutoring_divergence: str = field(default="jsd", metadata={"help": "jsd, forward_kl or reverse_kl."})
    tutoring_k: int = field(default=100, metadata={"help": "K of (14)."})
    tutoring_support: str = field(default="union", metadata={"help": "union, student, teacher or full."})
    tutoring_tail: str = field(default="bucket", metadata={"help": "bucket, none or student."})
    tutoring_clip: float | None = field(default=None, metadata={"help": "Most that one id contributes; full only."})
    tutoring_ratio_clip: float | None = field(default=None, metadata={"help": "Weight by min(pi / pi_old, this)."})
    tutoring_schedule: str = field(default="constant", metadata={"help": "constant, linear or cosine, to 0."})
    tutoring_use: str = field(default="loss", metadata={"help": "loss or advantage."})
    tutoring_rollouts: str = field(default="student", metadata={"help": "Whose context draws: student or teacher."})
    tutoring_mean: str = field(default="tutored", metadata={"help": "Mean over tutored or all tokens."})
    tutoring_keep_kl: bool = field(default=True, metadata={"help": "Reference KL on tutored groups too (12)."})
    rl_weight: float = field(default=1.0, metadata={"help": "Factor on the advantages."})
    leave_one_out: bool = field(default=False, metadata={"help": "Leave-one-out baseline."})
    resampling_rounds: int = field(default=0, metadata={"help": "Rounds of dynamic sampling; 0: none."})
    overlong_buffer: int = field(default=0, metadata={"help": "Tokens over which length is punished; 0: none."})
    perception_weight: float = field(default=0.0, metadata={"help": "gamma of PAPO."})
    perception_entropy_weight: float = field(default=0.0, metadata={"help": "eta_1 of PAPO."})
    masked_entropy_weight: float = field(default=0.0, metadata={"help": "eta_2 of PAPO."})
    perception_masked: str = field(default="current", metadata={"help": "current or rollout."})
    perception_estimator: str = field(default="paper", metadata={"help": "paper or code."})
    perception_mask_share: float = field(default=0.6, metadata={"help": "Share of blackened patches."})
    perception_patch: int = field(default=14, metadata={"help": "Side of a patch in pixels."})
    accuracy_reward: str = field(default="accuracy_reward", metadata={"help": "Reward that routing reads."})
    accuracy_threshold: float | None = field(default=None, metadata={"help": "From what value on it is right."})
    teacher_batch_size: int | None = field(default=None, metadata={"help": "Rollouts per teacher forward."})
    head: str = field(default="fused", metadata={"help": "fused or dense; the numbers are the same."})
    share_prefix: bool | None = field(default=None, metadata={"help": "Read a group's prompt once; None: if tutoring."})
    micro_batch_tokens: int | None = field(default=None, metadata={"help": "Tokens per forward and backward."})
    teacher_on_cpu: bool = field(default=False, metadata={"help": "Keep teacher states in CPU memory."})
    example_steps: int = field(default=10, metadata={"help": "Steps between written examples; 0: none."})
    ban_special_tokens: bool = field(default=True, metadata={"help": "Never sample special tokens but the end."})

    @classmethod
    def from_preset(cls, name: str, **settings: Any) -> "PTDConfig":
        """Return the settings of a preset (``ptdpo.config.PRESETS``), changed by ``settings``.

        Raises:
            ValueError: on an unknown preset or an unknown setting; suggests the nearest name.
        """
        return cls(**checked_settings({**preset_settings(name), **settings}))

    def __post_init__(self) -> None:
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        # TRL divides by some of these.
        for name, value in checked_settings(given).items():
            setattr(self, name, value)
        super().__post_init__()
        check_ranges(self)
        check_combinations(self)
        self._check_windows()
        self._align_checkpoints()

    @property
    def tutors(self) -> bool:
        """Return whether there is a tutoring term."""
        return self.tutoring_weight > 0

    @property
    def perceives(self) -> bool:
        """Return whether there is a perception term."""
        return self.perception_weight > 0 or self.perception_entropy_weight > 0 or self.masked_entropy_weight > 0

    @property
    def other_teacher(self) -> str | None:
        """Return the path of another model that teaches, if one does."""
        named = self.tutoring_teacher in ("frozen", "current", "ema")
        return None if named or not self.tutors else self.tutoring_teacher

    @property
    def shares_prefix(self) -> bool:
        """Return whether scoring shares prompts."""
        return self.tutors if self.share_prefix is None else self.share_prefix

    @property
    def divergence(self) -> Divergence:
        """Return the tutoring divergence as one record."""
        return Divergence(
            k=self.tutoring_k,
            kind=self.tutoring_divergence,  # type: ignore[arg-type]
            support=self.tutoring_support,  # type: ignore[arg-type]
            tail=self.tutoring_tail,  # type: ignore[arg-type]
            clip=self.tutoring_clip,
        )

    @property
    def optimiser_steps_per_generation(self) -> int:
        """Return how many optimiser steps one buffer of rollouts serves."""
        assert self.steps_per_generation is not None
        return self.steps_per_generation * self.num_iterations // self.gradient_accumulation_steps

    def _check_windows(self) -> None:
        """The tutored-token count of an optimiser step needs all its micro-batches in one buffer."""
        assert self.steps_per_generation is not None
        if self.tutors and self.steps_per_generation % self.gradient_accumulation_steps:
            raise ValueError(
                f"steps_per_generation={self.steps_per_generation} must be a multiple of "
                f"gradient_accumulation_steps={self.gradient_accumulation_steps}: the tutoring loss is normalised "
                "over whole optimiser steps (11)"
            )

    def _align_checkpoints(self) -> None:
        """Rollouts are not saved: a checkpoint inside a buffer would resume with other rollouts."""
        stride = self.optimiser_steps_per_generation
        if self.save_strategy == "steps" and stride > 1 and (self.save_steps < 1 or self.save_steps % stride):
            if self.save_steps < 1:
                raise ValueError(
                    f"save_steps={self.save_steps}: give a number of steps, a multiple of {stride}, so that "
                    "checkpoints fall where rollouts are made anew"
                )
            aligned = -(-int(self.save_steps) // stride) * stride
            warnings.warn(
                f"save_steps={self.save_steps} raised to {aligned}: checkpoints must fall where rollouts are made "
                f"anew, every {stride} steps, or resuming would not repeat the run",
                stacklevel=4,
            )
            self.save_steps = aligned


def checked_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of ``PTDConfig``, each of its type; numbers given as text become numbers.

    Raises:
        ValueError: on a name that ``PTDConfig`` does not have (suggests the nearest), or a value of the wrong type or
            out of range.
    """
    return typed_settings(PTDConfig, settings, "training setting")
