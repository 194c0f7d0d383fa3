"""What is arranged once, before training: which reward is the accuracy, banned tokens, scoring heads."""

from typing import Any

from accelerate.utils import is_peft_model

from ptdpo.models.sampling import banned_token_ids
from ptdpo.models.shared_prefill import share_prefill
from ptdpo.models.shared_prefix import enable_shared_prefix
from ptdpo.train.reference import refuse_unsupported
from ptdpo.tutor.head import add_scoring_head


def accuracy_column(trainer: Any) -> int:
    """Return which reward function is the accuracy that routing reads.

    Raises:
        ValueError: if none of them is.
    """
    if trainer.args.accuracy_reward not in trainer.reward_func_names:
        raise ValueError(
            f"accuracy_reward={trainer.args.accuracy_reward!r} is not among the reward functions "
            f"({', '.join(trainer.reward_func_names)}); routing needs the accuracy"
        )
    return trainer.reward_func_names.index(trainer.args.accuracy_reward)


def ban_special_tokens(trainer: Any) -> None:
    """Extend TRL's list of suppressed tokens."""
    banned = banned_token_ids(trainer._tokenizer, trainer.eos_token_ids)
    given = trainer.generation_kwargs.get("suppress_tokens") or []
    trainer.generation_kwargs["suppress_tokens"] = sorted({*banned, *given}) or None
    trainer.generation_config.suppress_tokens = trainer.generation_kwargs["suppress_tokens"]


def install_scoring(trainer: Any) -> None:
    """Let policy and reference score through ``ptdpo.tutor.head``."""
    refuse_unsupported(trainer)
    for model in (trainer.model, trainer.ref_model):
        if model is not None:
            unwrapped: Any = trainer.accelerator.unwrap_model(model)
            unwrapped = unwrapped.get_base_model() if is_peft_model(unwrapped) else unwrapped
            add_scoring_head(unwrapped, share_prefix=trainer.args.shares_prefix)
            # A process whose prompts all differ would make one forward less, and sharded ones wait for it.
            shares = model is trainer.model and trainer.args.shares_prefix and not trainer.is_fsdp_enabled
            if shares and enable_shared_prefix(unwrapped):
                share_prefill(unwrapped)
