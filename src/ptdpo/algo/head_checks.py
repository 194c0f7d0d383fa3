"""What the calls of a fused head check before they work, and how many tokens they take at once."""

from typing import Literal

import torch
from torch import Tensor

from ptdpo.algo.shapes import Float, Int, Shaped
from ptdpo.algo.teacher_topk import TeacherTopK

# Logits held at once by the forward pass, in numbers: 80 MB in float32, four times as many on a GPU.
_FORWARD_LOGITS = 20_000_000
# A CPU's product packs the head anew for every chunk of rows, which a large vocabulary makes narrow: so many rows, if
# their logits fit 136 MB, take 39 instead of 33 multiply-adds in the time (151,936 ids, H = 256).
_WIDE_ROWS, _WIDE_LOGITS = 224, 34_100_000


def operands(
    side: str, hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor]:
    """Check one side's tensors and return them in the type in which they are multiplied."""
    if not hidden.is_floating_point():
        raise ValueError(f"the {side}'s hidden states must be floating point, got {hidden.dtype}")
    if hidden.dim() != 2 or weight.dim() != 2 or hidden.size(1) != weight.size(1):
        raise ValueError(
            f"the {side}'s hidden states {tuple(hidden.shape)} and head {tuple(weight.shape)} must be [n, H] and [V, H]"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"the {side}'s head has {len(weight)} ids but its bias has shape {tuple(bias.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    if not hidden.isfinite().all():
        raise ValueError(f"the {side}'s hidden states hold NaN or infinity")
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        return hidden.to(dtype), weight.to(dtype)
    return hidden.to(weight.dtype), weight


def checked_rows(
    rows: Int[Tensor, " tutored"] | None,
    teacher: TeacherTopK | None,
    hidden: Float[Tensor, "n hidden"],
    weight: Float[Tensor, "vocab hidden"],
    temperature: float,
) -> Int[Tensor, " compared"]:
    """Return which tokens are compared."""
    if teacher is None:
        if rows is not None and rows.numel():
            raise ValueError(f"{rows.numel()} rows are to be compared but there is no teacher")
        return torch.empty(0, dtype=torch.long, device=hidden.device)
    rows = torch.arange(len(hidden), device=hidden.device) if rows is None else rows
    if rows.numel() != len(teacher):
        raise ValueError(f"the teacher holds {len(teacher)} tokens but {rows.numel()} rows are to be compared")
    _check_range("rows", rows, len(hidden), "the hidden states")
    named = torch.zeros(len(hidden), dtype=torch.int32, device=hidden.device)
    if rows.numel() and named.index_add_(0, rows, torch.ones_like(rows, dtype=torch.int32)).amax() > 1:
        raise ValueError("rows holds an index twice")
    if teacher.weight is None:
        raise ValueError("the teacher was stored without its head: call with_head first")
    if len(teacher.weight) != len(weight):
        raise ValueError(
            f"teacher and student must share a vocabulary: the teacher's head has {len(teacher.weight)} ids, "
            f"the student's {len(weight)}"
        )
    if teacher.temperature != temperature:
        raise ValueError(f"the teacher was read at temperature {teacher.temperature}, the student at {temperature}")
    return rows.long()


def check_tokens(
    hidden: Float[Tensor, "n hidden"], targets: Shaped[Tensor, "..."], vocabulary: int, vocab_chunk: int | None
) -> None:
    """Refuse targets that are not one id of the vocabulary per hidden state, and a chunk without ids."""
    if targets.shape != hidden.shape[:1]:
        raise ValueError(f"{len(hidden)} hidden states need as many targets, got shape {tuple(targets.shape)}")
    _check_range("targets", targets, vocabulary, "the vocabulary")
    if vocab_chunk is not None and vocab_chunk < 1:
        raise ValueError(f"vocab_chunk must be at least 1, got {vocab_chunk}")


def _check_range(name: str, values: Shaped[Tensor, " n"], size: int, of: str) -> None:
    """Refuse what is no index of ``of``, which has so many."""
    if values.is_floating_point() or values.dtype == torch.bool:
        raise ValueError(f"{name} must be integers, got {values.dtype}")
    if values.numel():
        least, most = torch.stack(values.aminmax()).tolist()
        if least < 0 or most >= size:
            raise ValueError(f"{name} must lie in [0, {size}), the size of {of}; got {least} to {most}")


def rows_at_once(row_chunk: int | None, ids: int, on_gpu: bool, backend: Literal["torch", "triton"]) -> int:
    """Return how many tokens' logits of so many ids are held at once; by memory unless ``row_chunk`` says."""
    if row_chunk is not None and row_chunk < 1:
        raise ValueError(f"row_chunk must be at least 1, got {row_chunk}")
    if row_chunk is None and backend == "triton":
        from ptdpo.algo.triton_calls import rows_at_once as by_kernels

        return by_kernels(ids)
    if row_chunk is not None:
        return row_chunk
    if on_gpu:
        return max(1, 4 * _FORWARD_LOGITS // ids)
    return max(1, _FORWARD_LOGITS // ids, min(_WIDE_ROWS, _WIDE_LOGITS // ids))
