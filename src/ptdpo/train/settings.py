"""``PTDConfig``: TRL's GRPOConfig plus the tutoring term."""

import copy
import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from transformers import TrainingArguments

from ptdpo.presets import settings_over_preset
from ptdpo.train.layout import Layout, aligned_save_steps, layout_of
from ptdpo.train.setting_checks import check_combinations
from ptdpo.train.setting_fields import SettingFields
from ptdpo.train.setting_types import typed_settings

_Kind = TypeVar("_Kind", bound=TrainingArguments)
_CALLED = "training setting"


@dataclass
class PTDConfig(SettingFields):
    """Settings of ``PTDTrainer``: everything of TRL's ``GRPOConfig``, with the method's defaults, and:

    Args:
        tutoring_weight: lambda of (12); 0 switches tutoring off, and training is TRL's own GRPO. Negative: away
            from the teacher, where that has an end (jsd, see ``tutoring_divergence`` and ``tutoring_advantage``).
        tutoring_teacher: whose weights teach: frozen (the start), current, ema, or the path of another model.
        tutoring_ema_rate: how far the moving average goes towards the policy at each step.
        tutoring_ema_interval: the average moves every so many optimiser steps; with rate 1 it is a copy that is
            renewed so often.
        tutoring_context: what the teacher is shown besides the question: hint, question (nothing), answer,
            solution, feedback (what a verifier or an environment says of a failed answer), or sibling (a right
            response of the same group, without its thinking).
        tutoring_images: which images the teacher sees: question (the student's), teacher (the column
            ``teacher_images`` in their place) or both (those behind them). Rows without such images are not tutored.
        tutoring_threshold: tau of (8); 1.0 tutors every failed rollout.
        tutoring_select: which rollouts are tutored: failed or all of activated groups, all_fail_groups,
            with_sibling (another of the group is right), failed_with_sibling (the failed ones of these), succeeded,
            every.
        tutoring_divergence: jsd, forward_kl (teacher‖student) or reverse_kl (student‖teacher).
        tutoring_k: K of (14).
        tutoring_support: union, student, teacher, or full (the whole vocabulary; K and tail play no part).
        tutoring_clip: with full support, the most that one id of the vocabulary contributes.
        tutoring_ratio_clip: multiply each divergence by the detached ratio min(pi / pi_old, this).
        tutoring_tail: bucket (15), none (renormalised) or student (only the teacher is).
        tutoring_schedule: lambda over the run: constant, linear or cosine down to 0.
        tutoring_use: loss (the divergence is differentiated), advantage (that of the sampled token is the detached
            log-ratio of teacher and student), reweight (the policy's own advantage is redistributed over the tokens
            of a response, A (1 - lambda + lambda clip((q / p)^sign(A))), RLSD) or shift (lambda tanh(log(q / p) / tau)
            is added to it, as far as its sign stays, RLCSD). With the last three divergence, support, tail and K play
            no part.
        tutoring_advantage: what the advantage of a sampled token is, with u = log q - log p: log_ratio, u, or jsd,
            (log(1 + e^u) - log 2) / 2, which is bounded from below.
        tutoring_advantage_clip: it is kept within this of 0, before anything weighs it; ``None``: it is not.
        tutoring_standardised: with ``tutoring_use=advantage``, the advantages of each response have mean 0 and
            deviation 1.
        tutoring_gate: the weight of each tutored token: none (1), teacher_entropy or student_entropy (exp(-beta H)),
            agreement (1 / (1 + (p / q)^beta) of the sampled token) or position (exp(-beta t / T)).
        tutoring_gate_sharpness: beta of these; negative turns them round.
        tutoring_gate_threshold: weights of tokens whose entropy, in nats, is above are multiplied by
            ``tutoring_gate_above``; ``None``: of none.
        tutoring_gate_above: 0: such tokens are left out; negative: they are pushed away from the teacher.
        tutoring_gate_normalised: divide the weights by their mean over the optimiser step; with teacher_entropy and
            position.
        tutoring_evidence_gate: alpha of the weight of each rollout, clip(1 + alpha z, 0, most): z is how its evidence
            stands out in its group, and evidence how much more the teacher expects it than what
            ``tutoring_contrast`` shows does (V-Zero, ``ptdpo.algo.gates.EvidenceGate``); 0: every weight is 1.
        tutoring_evidence_penalty: gamma, what tokens cost there that the contrast expects more.
        tutoring_evidence_most: the largest weight of a rollout.
        tutoring_entropy_floor: leave tutoring out in optimiser steps in which the teacher's mean entropy over the
            tutored tokens is below this share of that of the first steps; ``None``: never.
        tutoring_entropy_reopen: from what share on it is on again.
        tutoring_entropy_warmup: that many steps measure the first entropy; nothing is tutored in them.
        tutoring_keep_rl: keep the policy gradient on rollouts that are tutored; false: they are tutored in its place.
        tutoring_reweight_clip: with ``tutoring_use=reweight`` the ratio is clipped to 1 - this and 1 + this.
        tutoring_shift_scale: tau of ``tutoring_use=shift``.
        tutoring_shift_least: moves of an advantage up to this are left out.
        tutoring_shift_apart: of the tokens that the teacher reads, those whose advantage is moved have a mean of
            their own in the loss, and so have the others; both are added.
        tutoring_contrast: what stands in the place of p in reweight and shift, and gives the evidence of
            ``tutoring_evidence_gate``: none (the policy's p stays),
            failed_siblings (the mean of what the teacher thinks when it is shown wrong responses of the same group,
            one at a time), question (what it thinks when it is shown nothing) or images (when ``contrast_images``
            stand in the place of ``teacher_images``, or of the question's).
        tutoring_contrast_siblings: at most so many wrong responses.
        tutoring_rollouts: student, or teacher: in groups that fail as a whole, responses drawn under the teacher's
            context take the place of the failed ones where they are right (HDPO).
        tutoring_mean: the divergences are divided by the number of tutored tokens (11), or of all response tokens.
        tutoring_keep_kl: keep the reference KL on groups that are tutored, as (12) has it.
        rl_weight: factor on the advantages; 0 leaves the reference KL and the tutoring term alone.
        leave_one_out: baseline of an advantage without the rollout itself: advantages times G / (G - 1).
        resampling_rounds: how often groups from which nothing is learnt are exchanged for those of other prompts
            before training goes on with what there is (DAPO); 0: never.
        hinted_rollouts: where a whole group fails it answers with a hint, the vaguest first, and so many right
            responses take the place of failed ones, before rewards are compared (Scaf-GRPO); 0: none.
        hinted_scored: the prompt under which the policy is trained on them: question (what it reads when it is used)
            or hint (what it read when it answered).
        hinted_after: optimiser steps that are made without.
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
        skip_idle_rows: leave rows out of the update from which nothing is learnt, with the same gradient: their
            advantage is exactly 0 (groups that all pass or all fail) and the teacher did not read them. Only without
            terms that look at every row (beta, entropy, perception, experts' balance); logged means over tokens
            (entropy, clip_ratio) are then over the rows that are read, and rows/idle is the share of the others.
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

    @classmethod
    def from_preset(cls, name: str, **settings: Any) -> "PTDConfig":
        """Return the settings of a preset (``ptdpo.presets.PRESETS``), changed by ``settings``.

        Raises:
            ValueError: on an unknown preset or an unknown setting (suggests the nearest name), or a tutoring weight for
                a preset that does not tutor.
        """
        return settings_as_written(cls, settings_over_preset(name, settings)).completed()

    def __post_init__(self) -> None:
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}
        vars(self).update(typed_settings(type(self), given, _CALLED))
        self._complete()

    def completed(self) -> "PTDConfig":
        """Return settings as written, whose types are known to be right, as arguments for a trainer.

        Raises:
            ValueError: as the class does.
        """
        made = copy.copy(self)
        made._complete()
        return made

    def _complete(self) -> None:
        # TRL divides by some of them: types and ranges are checked before.
        super().__post_init__()
        check_combinations(self)
        self._align_checkpoints(layout_of(self, self.world_size))

    def _align_checkpoints(self, layout: Layout) -> None:
        aligned = aligned_save_steps(self, layout)
        if aligned != self.save_steps:
            warnings.warn(
                f"save_steps={self.save_steps} raised to {aligned}: checkpoints must fall where rollouts are made "
                f"anew, every {layout.optimiser_steps} steps, or resuming would not repeat the run",
                stacklevel=5,
            )
            self.save_steps = aligned


def settings_as_written(kind: type[_Kind], given: Mapping[str, Any], called: str = _CALLED) -> _Kind:
    """Return settings over the defaults of their class, each of its type and in its range, and no more than that.

    No device is looked for, so that a run on eight GPUs can be planned on a laptop. ``completed``, or for TRL's own
    ``dataclasses.replace``, makes arguments for a trainer of them.

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
