"""Who does the element-wise work of the fused head: torch, or Triton's kernels where they are installed."""

import importlib.util
from typing import Literal, get_args

from torch import Tensor

Backend = Literal["auto", "torch", "triton"]


def chosen(backend: Backend, tensor: Tensor) -> Literal["torch", "triton"]:
    """Return which backend works on a tensor: ``auto`` takes Triton on a GPU if it is installed.

    Raises:
        ValueError: for an unknown name, or ``triton`` where the package ``triton`` is missing.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(get_args(Backend))}, got {backend!r}")
    if backend == "torch" or (backend == "auto" and not tensor.is_cuda):
        return "torch"
    if importlib.util.find_spec("triton") is not None:
        return "triton"
    if backend == "triton":
        raise ValueError("backend='triton' needs the package triton: pip install triton, or leave backend='auto'")
    return "torch"
