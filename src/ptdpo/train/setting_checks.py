"""Which settings of ``PTDConfig`` are refused, and why."""

import dataclasses
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from ptdpo.algo.divergence import Kind, Support, Tail
from ptdpo.algo.objectives import Estimator, Schedule
from ptdpo.algo.routing import Select
from ptdpo.data.contexts import context_named
from ptdpo.values import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Range, check_range, typed_value, unknown_name

Head = Literal["fused", "dense"]
Use = Literal["loss", "advantage"]
Drawn = Literal["student", "teacher"]
Mean = Literal["tutored", "all"]
Masked = Literal["current", "rollout"]
# Loss types whose micro-batch loss is a sum over rows, up to a factor that does not depend on the responses.
SPLITTABLE_LOSSES = ("grpo", "dapo", "dr_grpo")


# Numbers that no run can have otherwise. ``None`` is always let through: types decide where it may stand.
_RANGES: Mapping[str, Range] = {
    **dict.fromkeys(
        (
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "generation_batch_size",
            "steps_per_generation",
            "num_generations",
            "num_iterations",
            "max_completion_length",
            "save_total_limit",
            "perception_patch",
            "tutoring_k",
            "teacher_batch_size",
            "micro_batch_tokens",
        ),
        COUNT,
    ),
    **dict.fromkeys(
        (
            "learning_rate",
            "weight_decay",
            "warmup_steps",
            "max_grad_norm",
            "beta",
            "top_k",
            "tutoring_weight",
            "rl_weight",
            "resampling_rounds",
            "overlong_buffer",
            "perception_weight",
            "perception_entropy_weight",
            "masked_entropy_weight",
            "example_steps",
        ),
        NOT_NEGATIVE,
    ),
    **dict.fromkeys(
        (
            "num_train_epochs",
            "temperature",
            "repetition_penalty",
            "epsilon",
            "epsilon_high",
            "delta",
            "adam_epsilon",
            "logging_steps",
            "save_steps",
            "eval_steps",
            "tutoring_clip",
            "tutoring_ratio_clip",
        ),
        POSITIVE,
    ),
    **dict.fromkeys(("top_p", "tutoring_threshold", "tutoring_ema_rate", "perception_mask_share"), SHARE),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), Range(0, 1, with_high=False)),
    "min_p": Range(0, 1),
    # What numpy takes.
    **dict.fromkeys(("seed", "data_seed"), Range(0, 2**32 - 1)),
}
_CHOICES: Mapping[str, Any] = {
    "tutoring_select": Select,
    "tutoring_divergence": Kind,
    "tutoring_support": Literal[Support, "full"],
    "tutoring_tail": Tail,
    "tutoring_schedule": Schedule,
    "tutoring_use": Use,
    "tutoring_rollouts": Drawn,
    "tutoring_mean": Mean,
    "perception_masked": Masked,
    "perception_estimator": Estimator,
    "head": Head,
}
_TEACHERS = ("frozen", "current", "ema")
# Where TRL's annotations are not what it takes.
_HINTS: Mapping[str, Any] = {
    "scale_rewards": bool | str,
    "num_generations": int,
    "fsdp": bool | str | list[str] | None,
}
_FILES = ("deepspeed", "fsdp_config")


def typed_settings(kind: type, settings: Mapping[str, Any], called: str) -> dict[str, Any]:
    """Return settings of a dataclass of TRL's family, each of its type and in its range.

    Args:
        kind: the dataclass.
        settings: names and values, as a recipe has them.
        called: what messages call a setting.

    Raises:
        ValueError: on an unknown name (suggests the nearest), a value of the wrong type or out of range, or a file
            that does not exist.
    """
    known = [f.name for f in dataclasses.fields(kind) if f.init]
    hints = {**typing.get_type_hints(kind), **_HINTS}
    for name in settings:
        if name not in known:
            raise unknown_name(called, name, known)
    typed = {name: typed_value(name, value, hints[name]) for name, value in settings.items()}
    for name, value in typed.items():
        if name in _RANGES:
            check_range(name, value, _RANGES[name])
    _check_files(typed)
    return typed


def _check_files(settings: Mapping[str, Any]) -> None:
    for name in _FILES:
        value = settings.get(name)
        # Text may also be the JSON itself.
        if isinstance(value, str) and not value.lstrip().startswith("{") and not Path(value).is_file():
            raise ValueError(f"{name}={value}: no such file")
    output = settings.get("output_dir")
    if output is not None and Path(output).is_file():
        raise ValueError(f"output_dir={output}: is a file; name a folder")


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


def check_ranges(args: Any) -> None:
    """Refuse values that no run can have, after ``typed_settings``.

    Raises:
        ValueError: naming the setting, its value and what it must be.
    """
    for name, allowed in _CHOICES.items():
        if getattr(args, name) not in get_args(allowed):
            raise ValueError(f"{name}={getattr(args, name)!r}: must be one of {', '.join(get_args(allowed))}")
    context_named(args.tutoring_context)
    if args.tutors and args.tutoring_teacher not in _TEACHERS:
        check_model_name(
            "tutoring_teacher", args.tutoring_teacher, "neither frozen, current or ema nor a model that can be loaded"
        )
    if args.max_completion_length is not None and args.overlong_buffer > args.max_completion_length:
        raise ValueError(
            f"overlong_buffer={args.overlong_buffer}: must not exceed max_completion_length="
            f"{args.max_completion_length}"
        )
    if args.micro_batch_tokens is not None:
        _check_splitting(args)


def _check_splitting(args: Any) -> None:
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
    context = context_named(args.tutoring_context)
    if context.needs_group and args.tutoring_select != "with_sibling":
        raise ValueError(
            f"tutoring_select={args.tutoring_select}: with tutoring_context={context.name} only rollouts that have a "
            "right sibling can be tutored; set tutoring_select=with_sibling"
        )
    alike = args.tutoring_teacher == "current" or (args.tutoring_teacher == "frozen" and args.rl_weight == 0)
    if context.shows_nothing and alike:
        raise ValueError(
            f"tutoring_context={context.name}: a {args.tutoring_teacher} teacher that reads the same question has "
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
        if context_named(args.tutoring_context).shows_nothing:
            raise ValueError(
                f"tutoring_rollouts=teacher: with tutoring_context={args.tutoring_context} nothing is drawn anew"
            )
