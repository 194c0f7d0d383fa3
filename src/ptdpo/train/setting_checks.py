"""Which settings of ``PTDConfig`` are refused, and why."""

import re
from pathlib import Path

from ptdpo.data.contexts import context_named
from ptdpo.train.setting_fields import SettingFields
from ptdpo.train.tutoring_checks import check_tutoring

# Loss types whose micro-batch loss is a sum over rows, up to a factor that does not depend on the responses.
SPLITTABLE_LOSSES = ("grpo", "dapo", "dr_grpo")


def check_model_name(setting: str, name: str, others: str = "neither a folder here nor a hub id") -> None:
    """Refuse a model that is neither a folder here nor may be on the hub; nothing is downloaded.

    Args:
        setting: whose value it is.
        name: folder, or hub id (owner/name).
        others: what else the setting may be, as the message says it.

    Raises:
        ValueError: naming the setting, its value and what it must be.
    """
    if not Path(name).is_dir() and not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", str(name)):
        raise ValueError(
            f"{setting}={name!r}: {others}: there is no such folder, and the id of a model on the hub is owner/name"
        )


def _check_splitting(args: SettingFields) -> None:
    if args.entropy_coef != 0 or args.use_adaptive_entropy or args.top_entropy_quantile < 1:
        raise ValueError(
            f"micro_batch_tokens={args.micro_batch_tokens}: entropy_coef, use_adaptive_entropy and "
            "top_entropy_quantile look at whole micro-batches; leave them at their defaults"
        )
    if args.loss_type not in SPLITTABLE_LOSSES:
        raise ValueError(
            f"micro_batch_tokens={args.micro_batch_tokens}: loss_type={args.loss_type!r} cannot be split, only "
            f"{', '.join(SPLITTABLE_LOSSES)}"
        )


def _check_skipping(args: SettingFields) -> None:
    """Refuse to leave rows out where the gradient of the others, or of the whole, would be another."""
    reason = (
        f"beta={args.beta}: every row has a reference KL"
        if args.beta != 0
        else "perception terms look at every row"
        if args.perceives
        else "entropy_coef, use_adaptive_entropy and top_entropy_quantile look at every row"
        if args.entropy_coef != 0 or args.use_adaptive_entropy or args.top_entropy_quantile < 1
        else f"loss_type={args.loss_type!r} is no sum over rows; {', '.join(SPLITTABLE_LOSSES)} are"
        if args.loss_type not in SPLITTABLE_LOSSES
        else ""
    )
    if reason:
        raise ValueError(f"skip_idle_rows=True: {reason}; set skip_idle_rows=false")


def check_combinations(args: SettingFields) -> None:
    """Refuse answers that make no sense together.

    Raises:
        ValueError: naming one of them, its value and what to set.
    """
    context_named(args.tutoring_context)
    if args.other_teacher is not None:
        check_model_name(
            "tutoring_teacher", args.other_teacher, "neither frozen, current or ema nor a model that can be loaded"
        )
    if args.max_completion_length is not None and args.overlong_buffer > args.max_completion_length:
        raise ValueError(
            f"overlong_buffer={args.overlong_buffer}: must not exceed max_completion_length="
            f"{args.max_completion_length}"
        )
    if args.micro_batch_tokens is not None:
        _check_splitting(args)
    if args.skip_idle_rows:
        _check_skipping(args)
    check_correction(args)
    if args.perceives:
        _check_perception(args)
    if args.sync_ref_model and args.beta == 0:
        raise ValueError("sync_ref_model=True with beta=0: there is no reference to move; leave it out")
    if args.leave_one_out and args.scale_rewards != "none":
        raise ValueError(
            f"leave_one_out=True: advantages are not scaled then; set scale_rewards=none, not {args.scale_rewards!r}"
        )
    if args.hints_rollouts:
        _check_hinted(args)
    if not args.tutors:
        return
    if args.sync_ref_model and args.tutoring_teacher == "frozen":
        raise ValueError(
            "sync_ref_model=True moves the reference, which tutoring_teacher=frozen needs to stay: choose ema"
        )
    check_tutoring(args)


def truncates(args: SettingFields) -> bool:
    """Return whether tokens are sampled from a part of the vocabulary only: top-p, top-k or min-p."""
    return args.top_p < 1 or args.top_k not in (None, 0, -1) or bool(args.min_p)


def check_correction(args: SettingFields) -> None:
    """Refuse a correction for vLLM by whole responses where vLLM reports probabilities of a truncated distribution.

    Each token's probability is then larger than the trainer's, so a ratio of whole responses falls with their length
    (0.26 at 400 tokens with top_p=0.99), and with it the update.

    Raises:
        ValueError: naming the mode, and what to set.
    """
    mode = str(args.vllm_importance_sampling_mode)
    if not (args.use_vllm and args.vllm_importance_sampling_correction and mode.startswith("sequence")):
        return
    if truncates(args):
        raise ValueError(
            f"vllm_importance_sampling_mode={mode} with top_p={args.top_p}, top_k={args.top_k}, min_p={args.min_p}: "
            "vLLM reports probabilities of the truncated distribution, and ratios of whole responses then go to 0 with "
            "their length, and with them the update: set vllm_importance_sampling_mode=token_truncate, or top_p=1, "
            "top_k=0 and no min_p"
        )


def _check_hinted(args: SettingFields) -> None:
    """Refuse hints in rollouts where those would not count, or would be read twice."""
    if args.num_generations is not None and args.hinted_rollouts >= args.num_generations:
        raise ValueError(
            f"hinted_rollouts={args.hinted_rollouts}: must be below num_generations={args.num_generations}, or the "
            "group is all right and nothing is learnt"
        )
    if args.hinted_scored == "hint" and (args.tutors or args.perceives):
        raise ValueError(
            "hinted_scored=hint: a teacher would read hints twice, and perception terms would be taken under them; set "
            "hinted_scored=question, or tutoring and perception weights to 0"
        )


def _check_perception(args: SettingFields) -> None:
    if args.loss_type not in ("grpo", "dapo"):
        raise ValueError(f"loss_type={args.loss_type!r}: perception terms are reduced as grpo or dapo reduce theirs")
    if args.masked_entropy_weight > 0 and args.perception_masked == "rollout":
        raise ValueError(
            f"masked_entropy_weight={args.masked_entropy_weight}: scored once at the rollout it has no gradient "
            "and trains nothing; set perception_masked=current, or the weight to 0"
        )
