"""Weights that an engine keeps in shards."""

from typing import Any, cast

from torch import Tensor
from torch.distributed.tensor import DTensor, Partial

from ptdpo.algo.shapes import Float


def whole(weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*whole_shape"]:
    """Return a weight as a plain tensor; a ``DTensor`` is gathered, a collective call on all processes of its mesh.

    The gradient comes back sharded, and is the mean over those processes, as FSDP and DDP have it: right where each
    process has tokens of its own, and where all have the same.

    Raises:
        ValueError: if DeepSpeed ZeRO-3 has parted the weight, because only DeepSpeed can gather it.
    """
    if hasattr(weight, "ds_id") and weight.numel() == 0:
        shape = tuple(cast(Any, weight).ds_shape)
        raise ValueError(
            f"the weight {shape} is parted by DeepSpeed ZeRO-3: score within the forward of the layer that owns it, "
            "or gather it with deepspeed.zero.GatheredParameters"
        )
    if not isinstance(weight, DTensor):
        return weight
    mesh = weight.device_mesh
    full = cast(Tensor, weight.full_tensor(grad_placements=[Partial()] * mesh.ndim))
    if full.requires_grad:
        full.register_hook(lambda grad: grad / mesh.size())
    return full
