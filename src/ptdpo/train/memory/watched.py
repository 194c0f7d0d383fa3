"""What tensors take while something runs: bytes that live, the most that lived at once, bytes kept for a backward pass.

Under torch's ``FakeTensorMode`` nothing is computed and nothing takes memory, so that this works at any size.
"""

import weakref
from collections.abc import Iterable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """While it lasts, counts the storages that operators make.

    Attributes:
        live: bytes of those that are still there.
        peak: the most that ``live`` was.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: dict[int, weakref.finalize] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and count what it returns that did not come in."""
        given = {leaf.untyped_storage()._cdata for leaf in _tensors((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            self._count(tensor, given)
        return result

    def _count(self, tensor: Tensor, given: set[int]) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in given or key in self._known:
            return
        size = storage.nbytes()
        self._known[key] = weakref.finalize(storage, self._gone, key, size)
        self.live += size
        self.peak = max(self.peak, self.live)

    def _gone(self, key: int, size: int) -> None:
        self.live -= size
        self._known.pop(key, None)


class KeptBytes:
    """While it lasts, adds up what autograd keeps for a backward pass, each storage once.

    Args:
        beside: tensors that are there anyway, such as weights.
    """

    def __init__(self, beside: Iterable[Tensor] = ()) -> None:
        self._beside = {tensor.untyped_storage()._cdata for tensor in beside}
        self._sizes: dict[int, int] = {}
        # Held, so that no storage takes the place of another that was let go.
        self._held: list[Tensor] = []
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor)

    def __enter__(self) -> "KeptBytes":
        self._hooks.__enter__()
        return self

    def __exit__(self, *fault: Any) -> None:
        self._hooks.__exit__(*fault)

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._beside:
            self._sizes[storage._cdata] = storage.nbytes()
            self._held.append(tensor)
        return tensor

    @property
    def bytes(self) -> int:
        """Return the bytes kept so far."""
        return sum(self._sizes.values())


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


@contextmanager
def autocast_as(dtype: torch.dtype):
    """Compute products in 16 bits, as on a GPU; in float32 change nothing."""
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        yield
