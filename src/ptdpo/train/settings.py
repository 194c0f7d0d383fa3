"""``PTDConfig``: TRL's GRPOConfig plus the tutoring term."""

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from transformers import SchedulerType, TrainingArguments
from trl import GRPOConfig

from ptdpo.algo.divergence import Kind, Support, Tail
from ptdpo.algo.objectives import Estimator, Schedule
from ptdpo.algo.routing import Select
from ptdpo.presets import preset_settings
from ptdpo.train.layout import Layout, aligned_save_steps, layout_of
from ptdpo.train.setting_checks import check_combinations
from ptdpo.train.setting_types import Loss, Size, Weight, setting, typed_settings
from ptdpo.tutor.head import Divergence
from ptdpo.values import NOT_NEGATIVE, POSITIVE, SHARE

_Kind = TypeVar("_Kind", bound=TrainingArguments)
_CALLED = "training setting"


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
        head: fused (``ptdpo.algo.lm_head``, holds no [tokens, vocabulary]; Triton's kernels on a GPU where they are
            installed), torch (the same without Triton) or dense (its readable reference).
        share_prefix: score the rows of a group from one packed row that holds prompt and images once, and keep
            groups together in micro-batches; ``None``: when tutoring. True does so without tutoring too, which is
            then TRL's GRPO up to rounding and the order of rollouts, no longer bit for bit.
        micro_batch_tokens: let policy and reference read at most so many tokens at once, in scoring and in training:
            each micro-batch is split into parts of whole groups; a group that exceeds the budget alone is read as a
            whole. The step is the same; only memory changes. For loss types grpo, dapo, dr_grpo. The teacher's
            forwards are bounded by ``teacher_batch_size``.
        teacher_on_cpu: keep what the teacher left in CPU memory between scoring and training.
        engine_check_nats: with vLLM, stop at the start or after the first update if its log-probabilities differ from
            the trainer's by more in the mean; ``None``: 0.02 in half precision or with a truncated distribution, else
            0.002; 0: never.
        record_steps: keep records of the rollouts (``records/`` of the run, docs/formats.md) every so many steps;
            0: never.
        record_groups: so many groups of each batch of rollouts are kept, with responses.
        record_tokens: so many tokens of each batch of rollouts are kept one by one, by each process.
        ban_special_tokens: never sample a special token other than those that end a response. Small models
            sample image markers, and scoring then finds more image tokens than images.

    Raises:
        ValueError: on a setting of the wrong type or out of range, or one that breaks the normalisation of (11) or
            resuming.
    """

    learning_rate: float = setting(1e-6, "Initial learning rate (Table 3).")
    weight_decay: float = setting(0.01, "Weight decay (Table 3).")
    lr_scheduler_type: SchedulerType | str = setting("constant", "Learning-rate schedule (Table 3).")
    logging_steps: float = setting(1, "Log every step: metrics.jsonl has a line each.")
    beta: float = setting(0.01, "Weight of the reference KL (Table 3).")
    loss_type: Loss = setting("grpo", "Mean over a response, then over responses (3).")
    use_bias_correction_kl: bool = setting(False, "Plain k3 estimator, as in (3).")

    tutoring_weight: Weight = setting(0.5, "lambda of (12); 0: no tutoring.")
    tutoring_teacher: str = setting("frozen", "frozen, current, ema or a path.")
    tutoring_ema_rate: Annotated[float, SHARE] = setting(0.05, "Step of the moving average.")
    tutoring_context: str = setting("hint", "hint, question, answer, solution or sibling.")
    tutoring_threshold: Annotated[float, SHARE] = setting(1.0, "tau of (8).")
    tutoring_select: Select = setting("failed", "failed, all, all_fail_groups, ...")
    tutoring_divergence: Kind = setting("jsd", "jsd, forward_kl or reverse_kl.")
    tutoring_k: Size = setting(100, "K of (14).")
    tutoring_support: Literal[Support, "full"] = setting("union", "union, student, teacher or full.")
    tutoring_tail: Tail = setting("bucket", "bucket, none or student.")
    tutoring_clip: Annotated[float, POSITIVE] | None = setting(None, "Most that one id contributes; full only.")
    tutoring_ratio_clip: Annotated[float, POSITIVE] | None = setting(None, "Weight by min(pi / pi_old, this).")
    tutoring_schedule: Schedule = setting("constant", "constant, linear or cosine, to 0.")
    tutoring_use: Literal["loss", "advantage"] = setting("loss", "loss or advantage.")
    tutoring_rollouts: Literal["student", "teacher"] = setting("student", "Whose context draws: student or teacher.")
    tutoring_mean: Literal["tutored", "all"] = setting("tutored", "Mean over tutored or all tokens.")
    tutoring_keep_kl: bool = setting(True, "Reference KL on tutored groups too (12).")
    rl_weight: Weight = setting(1.0, "Factor on the advantages.")
    leave_one_out: bool = setting(False, "Leave-one-out baseline.")
    resampling_rounds: Annotated[int, NOT_NEGATIVE] = setting(0, "Rounds of dynamic sampling; 0: none.")
    overlong_buffer: Annotated[int, NOT_NEGATIVE] = setting(0, "Tokens over which length is punished; 0: none.")
    perception_weight: Weight = setting(0.0, "gamma of PAPO.")
    perception_entropy_weight: Weight = setting(0.0, "eta_1 of PAPO.")
    masked_entropy_weight: Weight = setting(0.0, "eta_2 of PAPO.")
    perception_masked: Literal["current", "rollout"] = setting("current", "current or rollout.")
    perception_estimator: Estimator = setting("paper", "paper or code.")
    perception_mask_share: Annotated[float, SHARE] = setting(0.6, "Share of blackened patches.")
    perception_patch: Size = setting(14, "Side of a patch in pixels.")
    accuracy_reward: str = setting("accuracy_reward", "Reward that routing reads.")
    accuracy_threshold: float | None = setting(None, "From what value on it is right.")
    teacher_batch_size: Size | None = setting(None, "Rollouts per teacher forward.")
    head: Literal["fused", "torch", "dense"] = setting("fused", "fused, torch or dense; the numbers are the same.")
    share_prefix: bool | None = setting(None, "Read a group's prompt once; None: if tutoring.")
    micro_batch_tokens: Size | None = setting(None, "Tokens per forward and backward.")
    teacher_on_cpu: bool = setting(False, "Keep teacher states in CPU memory.")
    engine_check_nats: Annotated[float, NOT_NEGATIVE] | None = setting(None, "Most that vLLM may differ, in nats.")
    record_steps: Annotated[int, NOT_NEGATIVE] = setting(1, "Steps between kept records; 0: none.")
    record_groups: Annotated[int, NOT_NEGATIVE] = setting(16, "Groups kept of each batch of rollouts.")
    record_tokens: Annotated[int, NOT_NEGATIVE] = setting(512, "Tokens kept one by one of each batch of rollouts.")
    ban_special_tokens: bool = setting(True, "Never sample special tokens but the end.")

    @classmethod
    def from_preset(cls, name: str, **settings: Any) -> "PTDConfig":
        """Return the settings of a preset (``ptdpo.presets.PRESETS``), changed by ``settings``.

        Raises:
            ValueError: on an unknown preset or an unknown setting; suggests the nearest name.
        """
        return dataclasses.replace(settings_as_written(cls, {**preset_settings(name), **settings}))

    def __post_init__(self) -> None:
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        # TRL divides by some of these.
        vars(self).update(typed_settings(type(self), given, _CALLED))
        super().__post_init__()
        check_combinations(self)
        self._align_checkpoints(layout_of(self, self.world_size))

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
            kind=self.tutoring_divergence,
            support=self.tutoring_support,
            tail=self.tutoring_tail,
            clip=self.tutoring_clip,
        )

    def _align_checkpoints(self, layout: Layout) -> None:
        aligned = aligned_save_steps(self, layout)
        if aligned != self.save_steps:
            warnings.warn(
                f"save_steps={self.save_steps} raised to {aligned}: checkpoints must fall where rollouts are made "
                f"anew, every {layout.optimiser_steps} steps, or resuming would not repeat the run",
                stacklevel=4,
            )
            self.save_steps = aligned


def settings_as_written(kind: type[_Kind], given: Mapping[str, Any], called: str = _CALLED) -> _Kind:
    """Return settings over the defaults of their class, each of its type and in its range, and no more than that.

    No device is looked for, so that a run on eight GPUs can be planned on a laptop. ``dataclasses.replace`` makes
    arguments for a trainer of them.

    Args:
        kind: a dataclass of TRL's family.
        given: names and values, as a recipe has them.
        called: what messages call a setting.

    Raises:
        ValueError: on an unknown name (suggests the nearest), or a value of the wrong type or out of range.
    """
    settings = object.__new__(kind)
    for f in dataclasses.fields(kind):
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        vars(settings)[f.name] = default
    vars(settings).update(typed_settings(kind, given, called))
    return settings
