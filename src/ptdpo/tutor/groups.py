"""The groups of a batch of rollouts: how they did, and which of them are whose."""

from dataclasses import dataclass

from jaxtyping import Float, Shaped
from torch import Tensor


def group_of_rows(rows: int, generations: int, first_row: int = 0) -> list[int]:
    """Return the group of each of a process's rollouts, counted over all processes.

    Args:
        rows: how many rollouts the process holds.
        generations: G, rollouts per group; those of a group are neighbours.
        first_row: how many rollouts the processes before this one hold: a group may begin there.
    """
    return [row // generations for row in range(first_row, first_row + rows)]


@dataclass(frozen=True, slots=True)
class Groups:
    """How a batch of rollouts did, over all processes. Groups may be spread over processes.

    Attributes:
        accuracy: [groups, G], r: 0 or 1 for each rollout.
        rows: how many rollouts each process holds.
        process: which process this is.
    """

    accuracy: Float[Tensor, "groups rollouts"]
    rows: int
    process: int = 0

    @property
    def generations(self) -> int:
        """Return G, rollouts per group."""
        return self.accuracy.size(1)

    @property
    def first_row(self) -> int:
        """Return how many rollouts the processes before this one hold."""
        return self.process * self.rows

    def of_rows(self) -> list[int]:
        """Return the group of each of this process's rollouts."""
        return group_of_rows(self.rows, self.generations, self.first_row)

    def mine(self, values: Shaped[Tensor, "groups rollouts"]) -> Tensor:
        """Return [rows], this process's part of what there is for each rollout."""
        return values.flatten()[self.first_row : self.first_row + self.rows].clone()

    def right_siblings(self) -> list[int | None]:
        """Return for each of this process's rollouts the next right one of its group, itself excepted.

        Rollouts are counted over all processes; ``None`` where no other is right.
        """
        return [next(iter(siblings), None) for siblings in self._siblings(right=True)]

    def wrong_siblings(self, most: int) -> list[list[int]]:
        """Return for each of this process's rollouts the next wrong ones of its group, itself excepted.

        Args:
            most: how many at most.
        """
        return [siblings[:most] for siblings in self._siblings(right=False)]

    def _siblings(self, *, right: bool) -> list[list[int]]:
        """Return the right, or the wrong, others of each row's group, the next one first, over all processes."""
        alike = ((self.accuracy == 1) == right).tolist()
        found = []
        for row, group in enumerate(self.of_rows(), start=self.first_row):
            first = group * self.generations
            others = [(row - first + step) % self.generations for step in range(1, self.generations)]
            found.append([first + other for other in others if alike[group][other]])
        return found
