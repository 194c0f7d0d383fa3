"""The method's settings out of those of a TRL trainer."""

import math
from typing import Any

from ptdpo.data.contexts import context_named
from ptdpo.train.method_settings import (
    HintedSettings,
    MethodSettings,
    PerceptionSettings,
    RecordSettings,
    ResamplingSettings,
    ShiftSettings,
    TutoringSettings,
)
from ptdpo.train.settings import PTDConfig


def method_settings(args: PTDConfig) -> MethodSettings:
    """Return what the method reads of the settings; parts that are off are ``None``."""
    return MethodSettings(
        tutoring=_tutoring(args) if args.tutors else None,
        perception=_perception(args) if args.perceives else None,
        resampling=_resampling(args) if args.resampling_rounds else None,
        hinted=HintedSettings(args.hinted_rollouts, args.hinted_scored, args.hinted_after)
        if args.hints_rollouts
        else None,
        records=RecordSettings(args.record_steps, args.record_groups, args.record_tokens)
        if args.record_steps
        else None,
        rl_weight=args.rl_weight,
        leave_one_out=args.leave_one_out,
    )


def _tutoring(args: Any) -> TutoringSettings:
    return TutoringSettings(
        weight=args.tutoring_weight,
        schedule=args.tutoring_schedule,
        context=args.tutoring_context,
        images=args.tutoring_images,
        threshold=args.tutoring_threshold,
        select=args.tutoring_select,
        rollouts=args.tutoring_rollouts,
        divergence=args.divergence,
        use=args.tutoring_use,
        sampled=args.tutoring_advantage,
        most_sampled=math.inf if args.tutoring_advantage_clip is None else args.tutoring_advantage_clip,
        standardised=args.tutoring_standardised,
        gate=args.gate,
        evidence_gate=args.evidence_gate,
        floor=args.entropy_floor,
        keep_rl=args.tutoring_keep_rl,
        reweight_clip=args.tutoring_reweight_clip,
        shift=ShiftSettings(args.tutoring_shift_scale, args.tutoring_shift_least, args.tutoring_shift_apart),
        contrast=args.tutoring_contrast,
        contrast_siblings=args.tutoring_contrast_siblings,
        ratio_clip=args.tutoring_ratio_clip,
        mean=args.tutoring_mean,
        keep_kl=args.tutoring_keep_kl,
        teacher_on_cpu=args.teacher_on_cpu,
    )


def _perception(args: Any) -> PerceptionSettings:
    return PerceptionSettings(
        weight=args.perception_weight,
        entropy_weight=args.perception_entropy_weight,
        masked_entropy_weight=args.masked_entropy_weight,
        masked=args.perception_masked,
        estimator=args.perception_estimator,
        mask_share=args.perception_mask_share,
        patch=args.perception_patch,
        over="responses" if args.loss_type == "grpo" else "tokens",
        seed=args.seed,
    )


def _resampling(args: Any) -> ResamplingSettings:
    # What comes from the group is right, and where a whole group fails there is none.
    kept = args.tutors and not context_named(args.tutoring_context).needs_group
    # With hints in rollouts the policy answers, which sees its own images.
    columns = args.teacher_images.columns if kept and not args.hints_rollouts else ()
    context = "hints" if args.hints_rollouts else args.tutoring_context if kept else None
    return ResamplingSettings(args.resampling_rounds, context, columns, args.seed)
