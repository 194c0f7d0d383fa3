"""What the processes of a run do together, whatever engine launched them."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Processes(Protocol):
    """The processes that share a batch of rollouts. Every method is a collective call: all of them make it, or none."""

    @property
    def index(self) -> int:
        """Return which of them this is, from 0."""
        ...

    @property
    def count(self) -> int:
        """Return how many there are."""
        ...

    @property
    def device(self) -> torch.device:
        """Return where tensors to be exchanged lie."""
        ...

    def gather(self, values: Tensor) -> Tensor:
        """Return the values of all processes along the first dimension, in process order."""
        ...

    def gather_texts(self, texts: Sequence[str]) -> list[str]:
        """Return the texts of all processes, in process order."""
        ...

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over processes, elementwise."""
        ...

    def most(self, value: int) -> int:
        """Return the largest value that a process gives."""
        ...

    def least(self, value: int) -> int:
        """Return the smallest value that a process gives."""
        ...
