"""Which rollouts are right: the reward function whose 0 and 1 routing reads."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer

from ptdpo.train.settings import PTDConfig

DEFAULT = "accuracy_reward"


@dataclass(frozen=True, slots=True)
class AccuracySource:
    """Where the accuracy comes from.

    Attributes:
        column: which reward function.
        name: its name.
        needed: something reads the accuracy: values that are neither 0 nor 1 are refused.
        threshold: from what value on a rollout is right; ``None``: values are 0 and 1.
        others: of several environments each grades its own rollouts: the columns of the rest.
    """

    column: int
    name: str
    needed: bool
    threshold: float | None = None
    others: tuple[int, ...] = ()

    def among(self, rewards: Tensor) -> Tensor:
        """Return [N], 0, 1 or NaN, out of the rewards [N, functions] of a batch.

        Raises:
            ValueError: as ``of``.
        """
        values = rewards[:, self.column]
        for column in self.others:
            values = torch.where(values.isnan(), rewards[:, column], values)
        return self.of(values)

    def of(self, values: Tensor) -> Tensor:
        """Return 0, 1 or NaN (not graded) for each value; all NaN if the values say nothing and nobody asks.

        Raises:
            ValueError: if values are neither 0 nor 1, there is no threshold, and the accuracy is needed.
        """
        ungraded = values.isnan()
        if self.threshold is not None:
            return (values >= self.threshold).to(values).masked_fill(ungraded, torch.nan)
        odd = values[~ungraded & (values != 0) & (values != 1)]
        if not odd.numel():
            return values
        if self.needed:
            raise ValueError(
                f"the reward {self.name!r}, from which routing reads who is right, returned {odd[0].item():g}, neither "
                "0 nor 1: set accuracy_threshold (from which value on a rollout is right), name another "
                "accuracy_reward, or pass accuracy=FUNCTION"
            )
        return torch.full_like(values, torch.nan)


def accuracy_source(
    args: PTDConfig, reward_functions: Sequence[str], environments: Collection[str] = ()
) -> AccuracySource:
    """Return the reward function that ``args.accuracy_reward`` names; without a name of the user's the first one.

    Args:
        args: the settings.
        reward_functions: their names.
        environments: of these, the names of what environments reward themselves.

    Raises:
        ValueError: if the accuracy is needed and none has the name that the user gave.
    """
    needed = args.tutors or args.resampling_rounds > 0 or args.hints_rollouts
    named = args.accuracy_reward
    if needed and named not in reward_functions and named != DEFAULT:
        raise ValueError(
            f"accuracy_reward={named!r} is not among the reward functions ({', '.join(reward_functions)}); routing "
            "needs the accuracy"
        )
    column = list(reward_functions).index(named) if named in reward_functions else 0
    name, others = reward_functions[column], ()
    if name in environments:
        others = tuple(at for at, other in enumerate(reward_functions) if other in environments and at != column)
    return AccuracySource(column, name, needed, args.accuracy_threshold, others)


def accuracy_of(trainer: GRPOTrainer, args: PTDConfig) -> AccuracySource:
    """Return ``accuracy_source`` of a trainer, whose environments may reward themselves.

    Raises:
        ValueError: as that does.
    """
    pools = (trainer._environment_pool if trainer.environment_factories is not None else {}).values()
    return accuracy_source(args, trainer.reward_func_names, {type(pool[0]).__name__ for pool in pools})


def with_accuracy(reward_funcs: Any, accuracy: Callable[..., Any], args: PTDConfig, given: dict[str, Any]) -> Any:
    """Return the reward functions with one more, of weight 0, that says who is right; settings follow.

    Args:
        reward_funcs: those of the trainer, or one.
        accuracy: called as reward functions are.
        args: its ``accuracy_reward`` and ``reward_weights`` are set.
        given: arguments of the trainer, of which ``reward_processing_classes`` gets a place more.
    """
    functions = list(reward_funcs) if isinstance(reward_funcs, list | tuple) else [reward_funcs]
    args.reward_weights = [*(args.reward_weights or [1.0] * len(functions)), 0.0]
    args.accuracy_reward = getattr(accuracy, "__name__", type(accuracy).__name__)
    readers = given.get("reward_processing_classes")
    if readers is not None:
        given["reward_processing_classes"] = [*(readers if isinstance(readers, list) else [readers]), None]
    return [*functions, accuracy]
