"""What is arranged once, before training: which reward is the accuracy, banned tokens, scoring heads."""

import itertools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import is_peft_model
from datasets import Dataset
from trl import GRPOTrainer
from trl.rewards import get_soft_overlong_punishment

from ptdpo.data.contexts import context_named
from ptdpo.data.readable import readable_row
from ptdpo.data.teacher_images import TEACHER
from ptdpo.models.sampling import banned_token_ids
from ptdpo.models.shared_prefill import share_prefill
from ptdpo.models.shared_prefix import say_plain
from ptdpo.train.settings import PTDConfig
from ptdpo.train.trl.turns import row_templates, template_of
from ptdpo.tutor.context import images_of
from ptdpo.tutor.head import add_scoring_head
from ptdpo.tutor.processes import Processes
from ptdpo.tutor.rendered import refuse_unread_prompts

# Rows of the training data whose rendered prompts are looked at before training.
_CHECKED_ROWS = 8


def refuse_foreign_rollouts(args: PTDConfig, given: Mapping[str, Any]) -> None:
    """Refuse tools, environments and rollout functions where something of ours would sample or score without them.

    Raises:
        ValueError: if they are given with perception, resampling or rollouts drawn under the teacher's context.
    """
    names = [name for name in ("tools", "environment_factory", "rollout_func") if given.get(name)]
    samples = {
        "perception_weight, perception_entropy_weight and masked_entropy_weight": (args.perceives, "0"),
        "resampling_rounds": (args.resampling_rounds > 0, "0"),
        "hinted_rollouts": (args.hints_rollouts, "0"),
        "tutoring_context": (args.chooses_hints, "hint"),
        "tutoring_rollouts": (args.tutors and args.tutoring_rollouts == "teacher", "student"),
    }
    used = [(name, other) for name, (value, other) in samples.items() if value]
    if names and used:
        raise ValueError(
            f"{names[0]}: not supported with what samples or scores again: set {used[0][0]} to {used[0][1]}"
        )


def refuse_missing_context(args: PTDConfig, rows: Any, *, told: bool = False) -> None:
    """Refuse a data set without the column that the teacher is shown, or with nothing in it: nothing would be tutored.

    Args:
        args: the settings.
        rows: the training data; nothing is refused if it does not know its columns, as a stream may.
        told: a function says what the teacher is shown.

    Raises:
        ValueError: if there is tutoring, or hints in rollouts, and none of the columns that its context reads exists,
            or they are empty in all rows.
    """
    if args.tutors and not told and (missing := _missing(args.tutoring_context, rows)):
        raise ValueError(
            f"tutoring_context={args.tutoring_context}: train_dataset has {missing}, so the teacher would "
            "have nothing to read: name the column so, choose another tutoring_context, or set tutoring_weight=0"
        )
    for column in args.teacher_images.columns if args.tutors else ():
        if missing := _missing_column([column], rows):
            setting = "tutoring_images" if column == TEACHER else "tutoring_contrast"
            raise ValueError(
                f"{setting}={getattr(args, setting)}: train_dataset has {missing}, so nothing would be tutored: name "
                f"the column so, or leave {setting} out"
            )
    if args.hints_rollouts and (missing := _missing("hints", rows)):
        raise ValueError(
            f"hinted_rollouts={args.hinted_rollouts}: train_dataset has {missing}, so there would be no hint: "
            "name the column so, or set hinted_rollouts=0"
        )


def _missing(context: str, rows: Any) -> str:
    """Return what of a context is not in the data: its columns, or anything in them; empty if it is there."""
    return _missing_column([column.name for column in context_named(context).columns], rows)


def _missing_column(needed: Sequence[str], rows: Any) -> str:
    columns = getattr(rows, "column_names", None)
    if not needed or not columns:
        return ""
    there = [name for name in needed if name in columns]
    if not there:
        return f"no column {' or '.join(map(repr, needed))} (it has {', '.join(columns)})"
    if not isinstance(rows, Dataset) or any(_says(rows[name]) for name in there):
        return ""
    return f"nothing in the column {' or '.join(map(repr, there))} of any of its {len(rows)} rows"


def _says(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value)
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, Iterable) else None
    return bool(value) if parts is None else any(map(_says, parts))


def check_prompts(trainer: GRPOTrainer, args: PTDConfig) -> None:
    """Refuse a chat template that loses the question or what the teacher is shown, on the first rows of the data.

    Raises:
        ValueError: as ``refuse_unread_prompts``, or if a row cannot be read, see ``readable_row``.
    """
    data: Any = trainer.train_dataset
    rows = list(map(readable_row, itertools.islice(data, _CHECKED_ROWS)))
    own, images = row_templates(trainer, [row.get("environment") for row in rows]), args.tutoring_images
    template = template_of(trainer)
    refuse_unread_prompts(trainer.processing_class, rows, args.tutoring_context, own, images=images, **template)


def pad_left(processor: Any) -> None:
    """Have prompts padded on the left, as TRL's generation and scoring take them, with a warning if they were not."""
    tokenizer = getattr(processor, "tokenizer", processor)
    if tokenizer.padding_side != "left":
        warnings.warn(
            f"padding_side={tokenizer.padding_side!r} of the processing class set to 'left': responses follow their "
            "prompts",
            stacklevel=3,
        )
        tokenizer.padding_side = "left"


def refuse_streams(args: PTDConfig, rows_of_data: Any) -> None:
    """Refuse to resample from a stream; whether groups can be exchanged at all is for ``layout_of`` to say.

    Raises:
        ValueError: if the data cannot be drawn from by row.
    """
    if args.resampling_rounds and not hasattr(rows_of_data, "__getitem__"):
        raise ValueError(f"resampling_rounds={args.resampling_rounds}: a streamed data set cannot be drawn from")


def with_overlong_penalty(reward_funcs: Any, args: PTDConfig) -> tuple[list[Any], list[float]]:
    """Return the reward functions and their weights with DAPO's soft over-long penalty, of weight 1.

    0 up to L - C tokens, (L - C - length) / C up to L, -1 beyond; L ``max_completion_length``, C ``overlong_buffer``.
    """
    functions = list(reward_funcs) if isinstance(reward_funcs, list | tuple) else [reward_funcs] if reward_funcs else []
    weights = args.reward_weights or [1.0] * len(functions)
    assert args.max_completion_length is not None
    penalty = get_soft_overlong_punishment(args.max_completion_length, args.overlong_buffer)
    return [*functions, penalty], [*weights, 1.0]


def ban_special_tokens(trainer: GRPOTrainer) -> None:
    """Extend TRL's list of suppressed tokens."""
    banned = banned_token_ids(trainer._tokenizer, trainer.eos_token_ids)
    given = trainer.generation_kwargs.get("suppress_tokens") or []
    trainer.generation_kwargs["suppress_tokens"] = sorted({*banned, *given}) or None
    trainer.generation_config.suppress_tokens = trainer.generation_kwargs["suppress_tokens"]


def uses_zero3(args: PTDConfig) -> bool:
    """Return whether DeepSpeed parts the weights among processes: every layer's forward is then a collective call."""
    plugin = args.deepspeed_plugin
    return plugin is not None and plugin.zero_stage == 3


def check_images(processes: Processes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what several processes would end or hang on: a vision tower that runs on one of them only.

    Their gradients are exchanged, and under ZeRO-3 and FSDP their layers, by all or by none.

    Raises:
        ValueError: if some of all processes' rows have images and others have none.
    """
    if processes.count == 1:
        return
    counts = torch.tensor([sum(bool(images_of(row)) for row in rows), len(rows)], device=processes.device)
    seen, total = processes.sum(counts).tolist()
    if seen not in (0, total):
        raise ValueError(
            f"{seen} of {total} rows of a batch have images: {processes.count} processes need images in all rows or in "
            "none, for a vision tower that runs on one of them only breaks the exchange of gradients; train on one "
            "process, or on the two kinds of rows one after the other"
        )


def install_scoring(trainer: GRPOTrainer, args: PTDConfig) -> bool:
    """Let policy and reference score through ``ptdpo.tutor.head``; returns whether they share prefixes."""
    wanted = args.shares_prefix
    if wanted and args.use_transformers_continuous_batching:
        say_plain("the policy", "use_transformers_continuous_batching=True needs an attention of its own")
        wanted = False
    shares, unwrapped = False, None
    for model in (trainer.ref_model, trainer.model):
        if model is not None:
            unwrapped: Any = trainer.accelerator.unwrap_model(model)
            unwrapped = unwrapped.get_base_model() if is_peft_model(unwrapped) else unwrapped
            shares = add_scoring_head(unwrapped, share_prefix=wanted)
    if shares:
        share_prefill(unwrapped, together=trainer.is_fsdp_enabled or uses_zero3(args))
    return shares
