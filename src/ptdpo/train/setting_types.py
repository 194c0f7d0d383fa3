"""The type and the limits of every training setting: those of the dataclass, and limits on TRL's own."""

import dataclasses
import functools
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from ptdpo.values import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Limit, Range, exact_type, read_as, unknown_name

# Beyond these a run diverges at once: a slip of the exponent.
_LEARNING_RATE, _WEIGHT = Range(0, 10), Range(0, 1000)
Weight = Annotated[float, _WEIGHT]
SignedWeight = Annotated[float, Range(-1000, 1000)]
Size = Annotated[int, COUNT]
# Those that TRL's loss knows; it finds another one out in the middle of the first step.
Loss = Literal["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"]
# What numpy takes.
_SEED = Range(0, 2**32 - 1)
# Limits on settings of TRL and transformers; those of ``PTDConfig``'s own stand at its fields.
LIMITS: Mapping[str, Range] = {
    **dict.fromkeys(
        (
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "generation_batch_size",
            "steps_per_generation",
            "num_generations_eval",
            "num_iterations",
            "max_completion_length",
            "ref_model_sync_steps",
        ),
        COUNT,
    ),
    # Beyond, a step takes all of a weight.
    "weight_decay": Range(0, 100),
    **dict.fromkeys(
        (
            "warmup_steps",
            "max_grad_norm",
            "logging_steps",
            "save_steps",
            "eval_steps",
            "eval_delay",
            "save_total_limit",
            "dataloader_num_workers",
            "num_completions_to_print",
            "entropy_coef",
            "entropy_coef_min",
            "entropy_coef_max",
            "entropy_target",
            "vespo_k_pos",
            "vespo_k_neg",
            "vespo_lambda_pos",
            "vespo_lambda_neg",
        ),
        NOT_NEGATIVE,
    ),
    **dict.fromkeys(
        (
            "num_train_epochs",
            "repetition_penalty",
            "epsilon",
            "epsilon_high",
            "delta",
            "adam_epsilon",
            "sapo_temperature_neg",
            "sapo_temperature_pos",
            "off_policy_mask_threshold",
            "vllm_importance_sampling_clip_max",
        ),
        POSITIVE,
    ),
    **dict.fromkeys(("adam_beta1", "adam_beta2"), Range(0, 1, with_high=False)),
    **dict.fromkeys(("seed", "data_seed"), _SEED),
    # A rollout alone has no group to be compared with.
    "num_generations": Range(2),
    "learning_rate": _LEARNING_RATE,
    "beta": _WEIGHT,
    # Colder, one token has all the probability; hotter, all have the same.
    "temperature": Range(0.01, 100),
    "top_p": SHARE,
    "top_entropy_quantile": SHARE,
    "min_p": Range(0, 1),
    "ref_model_mixup_alpha": Range(0, 1),
    # 0 and -1 switch both off.
    "top_k": Range(-1),
    "max_steps": Range(-1),
}
# Old and new names of one setting: transformers 5.20 renamed them. Recipes may use either with any version.
RENAMED = (
    ("gradient_checkpointing", "activation_checkpointing"),
    ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"),
)
# Where annotations are not what is taken.
_HINTS: Mapping[str, Any] = {
    "accelerator_config": Any,
    "scale_rewards": bool | Literal["group", "batch", "none"],
    "debug": str | list[str] | None,
    "num_generations": int,
    "top_k": int | None,
    "fsdp": bool | str | list[str] | None,
    **dict.fromkeys(("max_grad_norm", "epsilon_high", "delta", "vllm_importance_sampling_clip_max"), Limit | None),
    # TRL finds out in the middle of the first step, if at all.
    "importance_sampling_level": Literal["token", "sequence"],
    "multi_objective_aggregation": Literal["sum_then_normalize", "normalize_then_sum"],
    "vllm_mode": Literal["server", "colocate"],
    "vllm_importance_sampling_mode": Literal["token_mask", "token_truncate", "sequence_mask", "sequence_truncate"],
}


def setting(default: Any, words: str) -> Any:
    """Return a field of a dataclass of settings, with the words that argument parsers show."""
    return dataclasses.field(default=default, metadata={"help": words})


def one_of(choices: Any, *more: str) -> str:
    """Return the values of a ``Literal``, and more, in words."""
    *first, last = *typing.get_args(choices), *more
    return f"{', '.join(first)} or {last}."


@functools.cache
def setting_types(kind: type) -> Mapping[str, Any]:
    """Return the exact type, with its limits, of every setting of a dataclass of TRL's family."""
    hints = {**typing.get_type_hints(kind, include_extras=True), **_HINTS}
    return {f.name: _limited(exact_type(hints[f.name]), LIMITS.get(f.name)) for f in dataclasses.fields(kind) if f.init}


def _limited(hint: Any, limits: Range | None) -> Any:
    return hint if limits is None else Annotated[hint, limits]


def typed_settings(kind: type, settings: Mapping[str, Any], called: str) -> dict[str, Any]:
    """Return settings of a dataclass of TRL's family, each of its type and in its range.

    Args:
        kind: the dataclass.
        settings: names and values, as a recipe has them.
        called: what messages call a setting.

    Raises:
        ValueError: on an unknown name (suggests the nearest), or a value of the wrong type or out of range, or a file
            that does not exist, or the two names of one setting with two values.
    """
    known = setting_types(kind)
    settings = _as_this_version_names(settings, known)
    for name in settings:
        if name not in known:
            raise unknown_name(called, name, known)
    typed = {name: read_as(known[name], value, "", name) for name, value in settings.items()}
    _check_files(typed)
    return typed


def _as_this_version_names(settings: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which one that transformers has renamed bears the name that the installed version has."""
    named = dict(settings)
    for pair in RENAMED:
        for asked, other in (pair, pair[::-1]):
            if asked in known or asked not in named or other not in known:
                continue
            value = named.pop(asked)
            if named.setdefault(other, value) != value:
                raise ValueError(
                    f"{asked}={value} with {other}={named[other]}: two names of one setting; leave one of them out"
                )
    return named


def _check_files(settings: Mapping[str, Any]) -> None:
    for name in ("deepspeed", "fsdp_config"):
        value = settings.get(name)
        # Text may also be the JSON itself.
        if isinstance(value, str) and not value.lstrip().startswith("{") and not Path(value).is_file():
            raise ValueError(f"{name}={value}: no such file")
    output = settings.get("output_dir")
    if output is not None and Path(output).is_file():
        raise ValueError(f"output_dir={output}: is a file; name a folder")
