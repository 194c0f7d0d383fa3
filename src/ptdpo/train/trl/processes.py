"""The processes of a run that accelerate launched."""

from collections.abc import Sequence
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor


class AccelerateProcesses:
    """``ptdpo.tutor.processes.Processes`` over accelerate."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator

    @property
    def index(self) -> int:
        """Return which of them this is, from 0."""
        return self._accelerator.process_index

    @property
    def count(self) -> int:
        """Return how many there are."""
        return self._accelerator.num_processes

    @property
    def device(self) -> torch.device:
        """Return where tensors to be exchanged lie."""
        return self._accelerator.device

    def gather(self, values: Tensor) -> Tensor:
        """Return the values of all processes along the first dimension, in process order."""
        return cast(Tensor, self._accelerator.gather(values))

    def gather_texts(self, texts: Sequence[str]) -> list[str]:
        """Return the texts of all processes, in process order."""
        return gather_object(list(texts))

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over processes, elementwise."""
        return cast(Tensor, self._accelerator.reduce(values, reduction="sum"))

    def most(self, value: int) -> int:
        """Return the largest value that a process gives."""
        return int(self.gather(torch.tensor([value], device=self.device)).max())

    def least(self, value: int) -> int:
        """Return the smallest value that a process gives."""
        return -self.most(-value)
