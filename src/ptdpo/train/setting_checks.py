"""Which settings of ``PTDConfig`` are refused, and why."""

from typing import Any, Literal, get_args

from ptdpo.algo.divergence import Kind, Support, Tail
from ptdpo.algo.objectives import Estimator, Schedule
from ptdpo.algo.routing import Select
from ptdpo.tutor.context import Context

Head = Literal["fused", "dense"]
Use = Literal["loss", "advantage"]
Drawn = Literal["student", "teacher"]
Mean = Literal["tutored", "all"]
Masked = Literal["current", "rollout"]
# Loss types whose micro-batch loss is a sum over rows, up to a factor that does not depend on the responses.
SPLITTABLE_LOSSES = ("grpo", "dapo", "dr_grpo")


def check_ranges(args: Any) -> None:
    """Refuse single settings that no run can have.

    Raises:
        ValueError: naming the setting, its value and what it must be.
    """
    choices = {
        "tutoring_select": Select,
        "tutoring_divergence": Kind,
        "tutoring_support": Literal[Support, "full"],
        "tutoring_context": Context,
        "tutoring_tail": Tail,
        "tutoring_schedule": Schedule,
        "tutoring_use": Use,
        "tutoring_rollouts": Drawn,
        "tutoring_mean": Mean,
        "perception_masked": Masked,
        "perception_estimator": Estimator,
        "head": Head,
    }
    for name, allowed in choices.items():
        if getattr(args, name) not in get_args(allowed):
            raise ValueError(f"{name}={getattr(args, name)!r}: must be one of {', '.join(get_args(allowed))}")
    weights = ("perception_weight", "perception_entropy_weight", "masked_entropy_weight", "resampling_rounds")
    for name in ("tutoring_weight", "rl_weight", *weights):
        if getattr(args, name) < 0:
            raise ValueError(f"{name}={getattr(args, name)}: must not be negative")
    if not 0 < args.tutoring_threshold <= 1:
        raise ValueError(f"tutoring_threshold={args.tutoring_threshold}: must be in (0, 1]")
    if not 0 < args.perception_mask_share <= 1:
        raise ValueError(f"perception_mask_share={args.perception_mask_share}: must be in (0, 1]")
    assert args.max_completion_length is not None
    if not 0 <= args.overlong_buffer <= args.max_completion_length:
        raise ValueError(
            f"overlong_buffer={args.overlong_buffer}: must lie between 0 and max_completion_length="
            f"{args.max_completion_length}"
        )
    if args.perception_patch < 1:
        raise ValueError(f"perception_patch={args.perception_patch}: must be at least 1")
    if args.tutoring_k < 1:
        raise ValueError(f"tutoring_k={args.tutoring_k}: must be at least 1")
    by_entropy = args.entropy_coef != 0 or args.use_adaptive_entropy or args.top_entropy_quantile < 1
    if args.micro_batch_tokens is not None and by_entropy:
        raise ValueError(
            f"micro_batch_tokens={args.micro_batch_tokens}: entropy_coef, use_adaptive_entropy and "
            "top_entropy_quantile look at whole micro-batches; leave them at their defaults"
        )
    for name in ("tutoring_clip", "tutoring_ratio_clip"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise ValueError(f"{name}={value}: must be positive")
    if not 0 < args.tutoring_ema_rate <= 1:
        raise ValueError(f"tutoring_ema_rate={args.tutoring_ema_rate}: must be in (0, 1]")
    for name in ("teacher_batch_size", "micro_batch_tokens"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}: must be at least 1")
    if args.micro_batch_tokens is not None and args.loss_type not in SPLITTABLE_LOSSES:
        raise ValueError(
            f"micro_batch_tokens={args.micro_batch_tokens}: loss_type={args.loss_type!r} cannot be split, only "
            f"{', '.join(SPLITTABLE_LOSSES)}"
        )


def check_combinations(args: Any) -> None:
    """Refuse answers that make no sense together.

    Raises:
        ValueError: naming one of them, its value and what to set.
    """
    if args.perceives:
        _check_perception(args)
    if args.leave_one_out and args.scale_rewards != "none":
        raise ValueError(
            f"leave_one_out=True: advantages are not scaled then; set scale_rewards=none, not {args.scale_rewards!r}"
        )
    if not args.tutors:
        return
    _check_use(args)
    if args.tutoring_context == "sibling" and args.tutoring_select != "with_sibling":
        raise ValueError(
            f"tutoring_select={args.tutoring_select}: with tutoring_context=sibling only rollouts that have a "
            "right sibling can be tutored; set tutoring_select=with_sibling"
        )
    alike = args.tutoring_teacher == "current" or (args.tutoring_teacher == "frozen" and args.rl_weight == 0)
    if args.tutoring_context == "question" and alike:
        raise ValueError(
            f"tutoring_context=question: a {args.tutoring_teacher} teacher that reads the same question has "
            "nothing to teach; show it more (hint, answer, solution, sibling), or set tutoring_teacher to the "
            "path of another model"
        )
    if args.tutoring_clip is not None and args.tutoring_support != "full":
        raise ValueError(
            f"tutoring_clip={args.tutoring_clip}: ids are clipped over the whole vocabulary; set tutoring_support=full"
        )
    if args.tutoring_support == "full" and args.head == "dense":
        raise ValueError("head=dense: the full vocabulary has one implementation; leave head=fused")


def _check_perception(args: Any) -> None:
    if args.loss_type not in ("grpo", "dapo"):
        raise ValueError(f"loss_type={args.loss_type!r}: perception terms are reduced as grpo or dapo reduce theirs")
    if args.masked_entropy_weight > 0 and args.perception_masked == "rollout":
        raise ValueError(
            f"masked_entropy_weight={args.masked_entropy_weight}: scored once at the rollout it has no gradient "
            "and trains nothing; set perception_masked=current, or the weight to 0"
        )


def _check_use(args: Any) -> None:
    """Refuse uses of the teacher that its other settings contradict."""
    if args.tutoring_use == "advantage" and (args.tutoring_support == "full" or args.tutoring_clip is not None):
        raise ValueError(
            "tutoring_use=advantage looks at the sampled token only: leave tutoring_support=union and tutoring_clip"
        )
    if args.tutoring_tail == "student" and args.tutoring_divergence == "reverse_kl":
        raise ValueError("tutoring_tail=student: KL(student‖teacher) is infinite then; choose jsd or forward_kl")
    if args.tutoring_rollouts == "teacher":
        if args.tutoring_select != "all_fail_groups":
            raise ValueError(
                f"tutoring_select={args.tutoring_select}: only groups that fail as a whole are drawn anew; with "
                "tutoring_rollouts=teacher set tutoring_select=all_fail_groups"
            )
        if args.beta != 0:
            raise ValueError(
                f"beta={args.beta}: the reference KL would be taken on rollouts that the policy did not draw; with "
                "tutoring_rollouts=teacher set beta=0"
            )
        if args.perceives:
            raise ValueError(
                "tutoring_rollouts=teacher: perception terms would be taken on rollouts that the policy did not "
                "draw; set their weights to 0"
            )
        if args.tutoring_ratio_clip is not None:
            raise ValueError(
                f"tutoring_ratio_clip={args.tutoring_ratio_clip}: rollouts that the policy did not draw have no "
                "importance ratio; with tutoring_rollouts=teacher leave it out"
            )
        if args.tutoring_context == "question":
            raise ValueError("tutoring_rollouts=teacher: with tutoring_context=question nothing is drawn anew")
