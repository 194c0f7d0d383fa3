"""Models beside the policy: where they come from when TRL loads none, and whether they are its start."""

from typing import Any

import torch
from torch.distributed.tensor import DTensor
from trl import GRPOTrainer
from trl.models import prepare_deepspeed, prepare_fsdp
from trl.trainer.utils import create_model_from_path, disable_dropout_in_model, get_config_model_id

from ptdpo.models.packed_attention import unpacked
from ptdpo.models.sharded import gathered


def origin_of(args: Any, other: str | None = None) -> dict[str, Any]:
    """Return what says where a model's files come from: its revision, and whether its own code may run.

    Args:
        args: the settings.
        other: another model than the policy, which the revision does not name.
    """
    revision = None if other is not None else (args.model_init_kwargs or {}).get("revision")
    named = {"revision": revision, "trust_remote_code": args.trust_remote_code}
    return {name: value for name, value in named.items() if value}


def load_for_scoring(trainer: GRPOTrainer, path: str | None = None) -> Any:
    """Load a model as TRL does for a reference KL, and prepare it for evaluation; ``None``: the start model."""
    args: Any = trainer.args
    policy: Any = trainer.model
    settings = dict(args.model_init_kwargs or {})
    if path is not None:
        # It names a version of the policy's repository.
        settings.pop("revision", None)
    if args.distributed_state.distributed_type in ("MULTI_GPU", "DEEPSPEED"):
        settings["device_map"] = None
    settings.setdefault("trust_remote_code", args.trust_remote_code)
    settings.setdefault("dtype", policy.dtype)
    settings.setdefault("attn_implementation", unpacked(policy.config._attn_implementation))
    model = create_model_from_path(path or get_config_model_id(policy.config), **settings)
    model.requires_grad_(False)
    if args.disable_dropout:
        disable_dropout_in_model(model)
    if trainer.is_deepspeed_enabled:
        return prepare_deepspeed(model, trainer.accelerator)
    if trainer.is_fsdp_enabled:
        return prepare_fsdp(model, trainer.accelerator)
    return trainer.accelerator.prepare_model(model, evaluation_mode=True)


@torch.no_grad()
def check_reference(policy: torch.nn.Module, reference: torch.nn.Module) -> None:
    """Compare a policy that was passed as an instance with the reference loaded from its path.

    Raises:
        ValueError: if they differ, because the instance was changed after loading.
    """
    loaded = dict(reference.named_parameters())
    for name, parameter in policy.named_parameters():
        other = loaded.get(name)
        if other is None or isinstance(parameter, DTensor) or isinstance(other, DTensor):
            continue
        with gathered(parameter, other):
            same = parameter.shape == other.shape and torch.equal(parameter.to(other.device, other.dtype), other)
        if not same:
            raise ValueError(
                f"the model was changed after it was loaded (parameter {name!r} differs from the saved one), so "
                "the reference and teacher would not be its start: save it with its processor and pass the path"
            )
