"""Learning rate and lambda over a run, as the trainer will have them."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ptdpo.algo.objectives import scheduled
from ptdpo.train.setting_fields import SettingFields, learning_rate_schedule

_SHARES = (0.0, 0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True)
class ScheduledStep:
    """What an optimiser step is made with.

    Attributes:
        step: counted from 1.
        learning_rate: of the step.
        tutoring: lambda of the step.
    """

    step: int
    learning_rate: float
    tutoring: float


def scheduled_steps(settings: SettingFields, steps: int) -> list[ScheduledStep]:
    """Return some steps of a run: the first, the end of the warm-up, each quarter and the last.

    A schedule that follows a metric (``reduce_lr_on_plateau``) is not known before: nothing is returned.
    """
    warm = settings.get_warmup_steps(steps)
    wanted = {1 + round(share * (steps - 1)) for share in _SHARES} | {steps, min(warm + 1, steps)}
    kind = getattr(settings.lr_scheduler_type, "value", settings.lr_scheduler_type)
    if steps < 1 or kind == "reduce_lr_on_plateau":
        return []
    rates = _rates(settings, steps, warm)
    made = []
    for step, rate in enumerate(rates, start=1):
        if step in wanted:
            weight = scheduled(settings.tutoring_weight, settings.tutoring_schedule, (step - 1) / steps)
            made.append(ScheduledStep(step, rate, weight))
    return made


def _rates(settings: SettingFields, steps: int, warm: int) -> Iterator[float]:
    optimiser = torch.optim.SGD([torch.zeros((), requires_grad=True)], lr=settings.learning_rate)
    schedule = learning_rate_schedule(settings, optimiser, warm, steps)
    for _ in range(steps):
        yield optimiser.param_groups[0]["lr"]
        optimiser.step()
        schedule.step()
