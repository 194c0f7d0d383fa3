"""Whole weights at the end of a run, under the names that the model has, whatever engine holds them in parts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.distributed.fsdp import StateDictType
from transformers import Trainer
from transformers.core_model_loading import WeightRenaming


@contextmanager
def whole_weights(trainer: Trainer) -> Iterator[None]:
    """Let ``save_model`` gather weights while the block lasts.

    By itself transformers leaves a folder without weights under FSDP with ``SHARDED_STATE_DICT``, and under ZeRO-3
    without ``stage3_gather_16bit_weights_on_model_save``.
    """
    settings: Any
    if trainer.is_fsdp_enabled:
        settings, name = trainer.accelerator.state.fsdp_plugin, "state_dict_type"
        value: Any = StateDictType.FULL_STATE_DICT
    elif trainer.is_deepspeed_enabled:
        _forget_unused_renamings(trainer.accelerator.unwrap_model(trainer.model))
        # The method that tells whether to.
        settings, name, value = trainer.deepspeed, "zero_gather_16bit_weights_on_model_save", lambda: True
    else:
        yield
        return
    before = getattr(settings, name)
    setattr(settings, name, value)
    try:
        yield
    finally:
        setattr(settings, name, before)


def _forget_unused_renamings(model: Any) -> None:
    """Drop the renamings of old files that loading did not need: saving undoes all that are noted.

    Under ZeRO-3 transformers notes all that it knows, and would save the layers of a Qwen3-VL under names that only
    transformers reads.
    """
    noted = getattr(model, "_weight_conversions", None)
    if noted is not None:
        model._weight_conversions = [one for one in noted if not isinstance(one, WeightRenaming) or _was_used(one)]


def _was_used(renaming: Any) -> bool:
    # Older transformers do not say.
    return renaming.was_used() if hasattr(renaming, "was_used") else True
