"""The settings of the method beside TRL's own: names, types, limits and defaults, and what follows from them."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from transformers import SchedulerType, get_scheduler
from trl import GRPOConfig

from ptdpo.algo.divergence import Kind, Support, Tail
from ptdpo.algo.gates import EvidenceGate, FloorSettings, Gate, TokenGate
from ptdpo.algo.objectives import Estimator, Sampled, Schedule, Use
from ptdpo.algo.routing import Select
from ptdpo.data.contexts import CONTEXTS
from ptdpo.data.teacher_images import ImagesShown, TeacherImages
from ptdpo.train.setting_types import Loss, SignedWeight, Size, Weight, one_of, setting
from ptdpo.tutor.contrast import Contrast
from ptdpo.tutor.head import Divergence
from ptdpo.values import NOT_NEGATIVE, POSITIVE, SHARE, Range


@dataclass
class SettingFields(GRPOConfig):
    """The fields of ``PTDConfig``, which says what each is for; what reads settings needs no more than this."""

    learning_rate: float = setting(1e-6, "Initial learning rate (Table 3).")
    weight_decay: float = setting(0.01, "Weight decay (Table 3).")
    lr_scheduler_type: SchedulerType | str = setting("constant", "Learning-rate schedule (Table 3).")
    logging_steps: float = setting(1, "Log every step: metrics.jsonl has a line each.")
    beta: float = setting(0.01, "Weight of the reference KL (Table 3).")
    loss_type: Loss = setting("grpo", "Mean over a response, then over responses (3).")
    use_bias_correction_kl: bool = setting(False, "Plain k3 estimator, as in (3).")

    tutoring_weight: SignedWeight = setting(0.5, "lambda of (12); 0: no tutoring; negative: away from the teacher.")
    tutoring_teacher: str = setting("frozen", "frozen, current, ema or a path.")
    tutoring_ema_rate: Annotated[float, SHARE] = setting(0.05, "Step of the moving average.")
    tutoring_ema_interval: Size = setting(1, "Optimiser steps between two of them.")
    tutoring_context: str = setting("hint", f"One of {', '.join(CONTEXTS)}.")
    tutoring_images: ImagesShown = setting("question", one_of(ImagesShown))
    tutoring_threshold: Annotated[float, SHARE] = setting(1.0, "tau of (8).")
    tutoring_select: Select = setting("failed", one_of(Select))
    tutoring_divergence: Kind = setting("jsd", one_of(Kind))
    tutoring_k: Size = setting(100, "K of (14).")
    tutoring_support: Literal[Support, "full"] = setting("union", one_of(Support, "full"))
    tutoring_tail: Tail = setting("bucket", one_of(Tail))
    tutoring_clip: Annotated[float, POSITIVE] | None = setting(None, "Most that one id contributes; full only.")
    tutoring_ratio_clip: Annotated[float, POSITIVE] | None = setting(None, "Weight by min(pi / pi_old, this).")
    tutoring_schedule: Schedule = setting("constant", f"{one_of(Schedule)} To 0.")
    tutoring_use: Use = setting("loss", one_of(Use))
    tutoring_advantage: Sampled = setting("log_ratio", one_of(Sampled))
    tutoring_advantage_clip: Annotated[float, POSITIVE] | None = setting(None, "Largest such advantage.")
    tutoring_standardised: bool = setting(False, "Advantages of a response: mean 0, deviation 1.")
    tutoring_gate: Gate = setting("none", one_of(Gate))
    tutoring_gate_sharpness: float = setting(1.0, "beta of the gate.")
    tutoring_gate_threshold: Annotated[float, NOT_NEGATIVE] | None = setting(None, "Entropy from which it turns.")
    tutoring_gate_above: Annotated[float, Range(-1, 1)] = setting(0.0, "Factor on weights above it.")
    tutoring_gate_normalised: bool = setting(False, "Weights of a step have the mean 1.")
    tutoring_evidence_gate: Weight = setting(0.0, "alpha: rollouts by their evidence; 0: all alike.")
    tutoring_evidence_penalty: Weight = setting(1.0, "gamma: cost of tokens that the contrast expects more.")
    tutoring_evidence_most: Annotated[float, POSITIVE] = setting(2.0, "Largest weight of a rollout.")
    tutoring_entropy_floor: Annotated[float, POSITIVE] | None = setting(None, "Share of the first entropy.")
    tutoring_entropy_reopen: Annotated[float, POSITIVE] = setting(1.07, "Share from which it opens again.")
    tutoring_entropy_warmup: Size = setting(5, "Steps that measure the first entropy.")
    tutoring_keep_rl: bool = setting(True, "Policy gradient on tutored rollouts too.")
    tutoring_reweight_clip: Annotated[float, SHARE] = setting(0.2, "Most that a reweighting changes.")
    tutoring_shift_scale: Annotated[float, POSITIVE] = setting(0.02, "tau: evidence that moves an advantage.")
    tutoring_shift_least: Annotated[float, NOT_NEGATIVE] = setting(0.02, "delta: smaller moves are left out.")
    tutoring_shift_apart: bool = setting(False, "Moved tokens and the others have a mean each.")
    tutoring_contrast: Contrast = setting("none", one_of(Contrast))
    tutoring_contrast_siblings: Size = setting(4, "Most wrong siblings that are contrasted with.")
    tutoring_rollouts: Literal["student", "teacher"] = setting("student", "Whose context draws: student or teacher.")
    tutoring_mean: Literal["tutored", "all"] = setting("tutored", "Mean over tutored or all tokens.")
    tutoring_keep_kl: bool = setting(True, "Reference KL on tutored groups too (12).")
    rl_weight: Weight = setting(1.0, "Factor on the advantages.")
    leave_one_out: bool = setting(False, "Leave-one-out baseline.")
    resampling_rounds: Annotated[int, NOT_NEGATIVE] = setting(0, "Rounds of dynamic sampling; 0: none.")
    hinted_rollouts: Annotated[int, NOT_NEGATIVE] = setting(0, "Failed rollouts that right hinted ones replace.")
    hinted_scored: Literal["question", "hint"] = setting("question", "Under which prompt: question or hint.")
    hinted_after: Annotated[int, NOT_NEGATIVE] = setting(0, "Optimiser steps without.")
    overlong_buffer: Annotated[int, NOT_NEGATIVE] = setting(0, "Tokens over which length is punished; 0: none.")
    perception_weight: Weight = setting(0.0, "gamma of PAPO.")
    perception_entropy_weight: Weight = setting(0.0, "eta_1 of PAPO.")
    masked_entropy_weight: Weight = setting(0.0, "eta_2 of PAPO.")
    perception_masked: Literal["current", "rollout"] = setting("current", "current or rollout.")
    perception_estimator: Estimator = setting("paper", one_of(Estimator))
    perception_mask_share: Annotated[float, SHARE] = setting(0.6, "Share of blackened patches.")
    perception_patch: Size = setting(14, "Side of a patch in pixels.")
    accuracy_reward: str = setting("accuracy_reward", "Reward that routing reads.")
    accuracy_threshold: float | None = setting(None, "From what value on it is right.")
    teacher_batch_size: Size | None = setting(None, "Rollouts per teacher forward.")
    head: Literal["fused", "torch", "dense"] = setting("fused", "fused, torch or dense; the numbers are the same.")
    share_prefix: bool | None = setting(None, "Read a group's prompt once; None: if tutoring.")
    micro_batch_tokens: Size | None = setting(None, "Tokens per forward and backward.")
    skip_idle_rows: bool = setting(False, "Do not read rows that nothing is learnt from.")
    teacher_on_cpu: bool = setting(False, "Keep teacher states in CPU memory.")
    engine_check_nats: Annotated[float, NOT_NEGATIVE] | None = setting(None, "Most that vLLM may differ, in nats.")
    record_steps: Annotated[int, NOT_NEGATIVE] = setting(1, "Steps between kept records; 0: none.")
    record_groups: Annotated[int, NOT_NEGATIVE] = setting(16, "Groups kept of each batch of rollouts.")
    record_tokens: Annotated[int, NOT_NEGATIVE] = setting(512, "Tokens kept one by one of each batch of rollouts.")
    ban_special_tokens: bool = setting(True, "Never sample special tokens but the end.")

    @property
    def tutors(self) -> bool:
        """Return whether there is a tutoring term."""
        return self.tutoring_weight != 0

    @property
    def hints_rollouts(self) -> bool:
        """Return whether groups that fail as a whole are answered with hints."""
        return self.hinted_rollouts > 0

    @property
    def chooses_hints(self) -> bool:
        """Return whether the teacher's hint is chosen by what the policy answers with it."""
        return self.tutors and self.tutoring_context in CONTEXTS and CONTEXTS[self.tutoring_context].adaptive

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
    def teacher_images(self) -> TeacherImages:
        """Return which images the teacher sees."""
        return TeacherImages(self.tutoring_images, self.tutoring_contrast == "images")

    @property
    def shares_prefix(self) -> bool:
        """Return whether scoring shares prompts."""
        return self.tutors if self.share_prefix is None else self.share_prefix

    @property
    def gate(self) -> TokenGate:
        """Return the weights of tokens as one record."""
        return TokenGate(
            kind=self.tutoring_gate,
            sharpness=self.tutoring_gate_sharpness,
            threshold=self.tutoring_gate_threshold,
            above=self.tutoring_gate_above,
            normalised=self.tutoring_gate_normalised,
        )

    @property
    def evidence_gate(self) -> EvidenceGate:
        """Return the weights of rollouts as one record."""
        return EvidenceGate(self.tutoring_evidence_gate, self.tutoring_evidence_penalty, self.tutoring_evidence_most)

    @property
    def entropy_floor(self) -> FloorSettings | None:
        """Return when the gate over steps closes and opens; ``None``: there is none."""
        if self.tutoring_entropy_floor is None:
            return None
        return FloorSettings(self.tutoring_entropy_floor, self.tutoring_entropy_reopen, self.tutoring_entropy_warmup)

    @property
    def reads_teacher_entropy(self) -> bool:
        """Return whether the teacher's entropy is needed."""
        return self.gate.reads_teacher_entropy or self.tutoring_entropy_floor is not None

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


def learning_rate_schedule(settings: SettingFields, optimiser: Any, warm: int, steps: int) -> Any:
    """Return the schedule that the trainer makes: an object whose ``step`` goes on by one optimiser step.

    Args:
        settings: of the run.
        optimiser: whose learning rate it sets.
        warm: steps of the warm-up.
        steps: of the run.
    """
    given = settings.lr_scheduler_kwargs if isinstance(settings.lr_scheduler_kwargs, dict) else {}
    return get_scheduler(settings.lr_scheduler_type, optimiser, warm, steps, scheduler_specific_kwargs=given)
