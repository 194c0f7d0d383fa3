"""Reading weights that DeepSpeed ZeRO-3 keeps in parts, outside the forward pass of the layer that owns them."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any


def gathered(*parameters: Any) -> AbstractContextManager[Any]:
    """Return a context in which these parameters are whole, if ZeRO-3 has parted them; not for changing them.

    Entering and leaving it are collective calls: every process must do both.
    """
    # A tied weight may be whole because another layer is at work; parting it then would be an error.
    parted = [p for p in parameters if p is not None and hasattr(p, "ds_id") and p.ds_status.name != "AVAILABLE"]
    if not parted:
        return nullcontext()
    import deepspeed  # type: ignore[import-not-found]

    return deepspeed.zero.GatheredParameters(parted)
