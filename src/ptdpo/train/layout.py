"""How rollouts are laid out over processes, micro-batches and optimiser steps, and which layouts are refused."""

from dataclasses import dataclass

from ptdpo.train.setting_fields import SettingFields


@dataclass(frozen=True, slots=True)
class Layout:
    """One generation of rollouts and the optimiser steps that it serves.

    Attributes:
        rows: rollouts of one micro-batch on one process.
        processes: how many processes train.
        accumulation: micro-batches of one optimiser step.
        group: rollouts of one prompt.
        rollouts: rollouts of one generation, over all processes.
        iterations: how often each rollout is trained on.
    """

    rows: int
    processes: int
    accumulation: int
    group: int
    rollouts: int
    iterations: int

    @property
    def prompts(self) -> int:
        """Return the prompts of one generation."""
        return self.rollouts // self.group

    @property
    def micro_batches(self) -> int:
        """Return the micro-batches of one generation on one process."""
        return self.rollouts // (self.rows * self.processes)

    @property
    def prompts_per_step(self) -> int:
        """Return the prompts of one optimiser step, over all processes."""
        return self.rows * self.processes * self.accumulation // self.group

    @property
    def optimiser_steps(self) -> int:
        """Return the optimiser steps that one generation serves, rounded down."""
        return self.micro_batches * self.iterations // self.accumulation


def layout_of(settings: SettingFields, processes: int) -> Layout:
    """Return the layout of a run over so many processes.

    Args:
        settings: batch sizes as written, or as TRL has completed them.
        processes: how many processes train.

    Raises:
        ValueError: if a generation does not hold whole micro-batches, groups and, with tutoring, optimiser steps; or
            groups that may be exchanged would be spread over processes.
    """
    assert settings.num_generations is not None
    rows, accumulation = settings.per_device_train_batch_size, settings.gradient_accumulation_steps
    rollouts = rollouts_per_generation(settings, processes)
    layout = Layout(rows, processes, accumulation, settings.num_generations, rollouts, settings.num_iterations)
    if rollouts % (rows * processes):
        raise ValueError(
            f"generation_batch_size={rollouts} must be a multiple of per_device_train_batch_size x processes "
            f"({rows} x {processes})"
        )
    if rollouts % layout.group:
        raise ValueError(f"a generation of {rollouts} rollouts does not hold whole groups of {layout.group}")
    if settings.tutors and layout.micro_batches % accumulation:
        raise ValueError(
            f"a generation serves {layout.micro_batches} micro-batches per process, which must be a multiple of "
            f"gradient_accumulation_steps={accumulation}: the tutoring loss is normalised over whole optimiser steps "
            "(11)"
        )
    _check_groups(settings, layout)
    return layout


def rollouts_per_generation(settings: SettingFields, processes: int) -> int:
    """Return the rollouts of one generation over all processes, from whichever setting says so."""
    steps = settings.steps_per_generation or settings.gradient_accumulation_steps
    return settings.generation_batch_size or settings.per_device_train_batch_size * processes * steps


def _check_groups(settings: SettingFields, layout: Layout) -> None:
    """Groups are exchanged within a process, by resampling or for rollouts under a hint or the teacher's context."""
    rows = layout.rows * layout.micro_batches
    exchanges = {
        "tutoring_rollouts=teacher": settings.tutors and settings.tutoring_rollouts == "teacher",
        f"resampling_rounds={settings.resampling_rounds}": settings.resampling_rounds > 0,
        f"hinted_rollouts={settings.hinted_rollouts}": settings.hints_rollouts,
        f"tutoring_context={settings.tutoring_context}": settings.chooses_hints,
    }
    setting = next((name for name, on in exchanges.items() if on), None)
    if setting is not None and rows % layout.group:
        raise ValueError(
            f"{setting}: every process must hold whole groups, but its {rows} rollouts (per_device_train_batch_size x "
            f"steps_per_generation) are not a multiple of num_generations={layout.group}"
        )


def aligned_save_steps(settings: SettingFields, layout: Layout) -> float:
    """Return ``save_steps``, raised to where rollouts are made anew.

    Rollouts are not saved: a checkpoint between two generations would resume with other rollouts.

    Raises:
        ValueError: if checkpoints are asked for by a share of the run.
    """
    stride, asked = layout.optimiser_steps, settings.save_steps
    if settings.save_strategy != "steps" or stride <= 1 or (asked >= 1 and asked % stride == 0):
        return asked
    if asked < 1:
        raise ValueError(
            f"save_steps={asked}: give a number of steps, a multiple of {stride}, so that checkpoints fall where "
            "rollouts are made anew"
        )
    return -(-int(asked) // stride) * stride
