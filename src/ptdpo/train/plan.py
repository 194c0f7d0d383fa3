"""What a recipe would do: everything that can be checked without loading weights."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptdpo.config import SFT, Recipe, preset_settings
from ptdpo.data.contexts import context_named
from ptdpo.data.load import LoadedData, load_data
from ptdpo.models.loading import check_model, load_processor, model_config
from ptdpo.train.settings import PTDConfig, checked_settings
from ptdpo.train.sft import checked_sft_settings


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe resolved: what one run will do."""

    recipe: Recipe
    problems: int
    hinted: int
    solved: int
    prompts_per_generation: int
    rollouts_per_generation: int
    rows_per_step: int
    optimiser_steps: int
    processes: int
    report: str

    def rows(self) -> list[tuple[str, str]]:
        """Return the cells to print."""
        return [
            ("preset", self.recipe.preset),
            ("model", self.recipe.model),
            ("problems", str(self.problems)),
            ("problems with a hint", str(self.hinted)),
            ("problems with a solution", str(self.solved)),
            *self._generation_rows(),
            ("optimiser steps", str(self.optimiser_steps)),
            ("processes", str(self.processes)),
            *([("dropped", self.report)] if self.report else []),
        ]

    def _generation_rows(self) -> list[tuple[str, str]]:
        if not self.rollouts_per_generation:
            return [("solutions per optimiser step", str(self.rows_per_step))]
        return [
            ("prompts per generation", str(self.prompts_per_generation)),
            ("rollouts per generation", str(self.rollouts_per_generation)),
            ("prompts per optimiser step", str(self.rows_per_step)),
        ]


def resolved_settings(recipe: Recipe) -> dict[str, Any]:
    """Return the training settings of a recipe over those of its preset.

    Raises:
        ValueError: on an unknown setting (suggests the nearest name), or a value of the wrong type or out of range.
    """
    settings = {**preset_settings(recipe.preset), **recipe.train}
    return checked_sft_settings(settings) if recipe.preset == SFT else checked_settings(settings)


def make_plan(recipe: Recipe) -> Plan:
    """Check everything that can be checked without weights, and return what the run would do.

    The model's configuration and processor are read if they can be reached; prompt lengths are checked then.
    Batches are laid out for ``recipe.processes``, whatever this machine has.

    Raises:
        ValueError: on any mistake in the recipe or its data.
    """
    settings = resolved_settings(recipe)
    check_model(recipe.model)
    data = load_data(
        recipe.data,
        processor=_processor_if_local(recipe.model),
        image_folder=images_folder(settings),
        context=settings.get("tutoring_context", "hint"),
    )
    plan = plan_of(recipe, settings, data)
    if recipe.preset != SFT:
        _check_on_this_machine(settings)
    return plan


def plan_of(recipe: Recipe, settings: dict[str, Any], data: LoadedData) -> Plan:
    """Check a recipe against its data and return what the run would do; builds no training arguments.

    Args:
        recipe: the recipe.
        settings: ``resolved_settings`` of the recipe.
        data: its data, loaded.

    Raises:
        ValueError: if the data holds too little for one generation or lacks what the teacher reads, or batches do
            not make up whole groups and generations.
    """
    check_images(recipe.processes, data)
    if recipe.preset == SFT:
        return _sft_plan(recipe, settings, data)
    check_contexts(settings, data)
    batch = settings.get("per_device_train_batch_size", 8)
    accumulation = settings.get("gradient_accumulation_steps", 1)
    generations = settings.get("num_generations", 8)
    rollouts = settings.get("generation_batch_size") or batch * recipe.processes * (
        settings.get("steps_per_generation") or accumulation
    )
    _check_layout(settings, recipe.processes, batch, accumulation, generations, rollouts)
    prompts = rollouts // generations
    if prompts > len(data.problems):
        raise ValueError(f"one generation takes {prompts} prompts, but the data has only {len(data.problems)} problems")
    micro_batches = rollouts // (batch * recipe.processes) * settings.get("num_iterations", 1)
    epoch = -(-(len(data.problems) // prompts * micro_batches) // accumulation)
    return Plan(
        recipe,
        len(data.problems),
        data.hinted,
        _solved(data),
        prompts,
        rollouts,
        batch * recipe.processes * accumulation // generations,
        _steps(settings, epoch),
        recipe.processes,
        data.report,
    )


def _steps(settings: dict[str, Any], epoch: int) -> int:
    """Return the optimiser steps of a run, counted as transformers does."""
    max_steps = settings.get("max_steps", -1)
    return max_steps if max_steps > 0 else math.ceil(epoch * settings.get("num_train_epochs", 3))


def images_folder(settings: dict[str, Any]) -> Path:
    """Return where images that lie inside parquet files are written."""
    return Path(str(settings.get("output_dir", "runs"))) / "images"


def _processor_if_local(model: str) -> Any:
    """Return the processor if the model is a folder here; a dry run downloads nothing."""
    if not Path(model).is_dir():
        return None
    model_config(model)
    return load_processor(model)


def _sft_plan(recipe: Recipe, settings: dict[str, Any], data: LoadedData) -> Plan:
    solved = _solved(data)
    if not solved:
        raise ValueError("preset=sft but no problem has a solution: set data.solutions to a solutions file")
    rows = settings.get("per_device_train_batch_size", 8) * recipe.processes
    rows *= settings.get("gradient_accumulation_steps", 1)
    steps = _steps(settings, -(-solved // rows))
    return Plan(recipe, len(data.problems), data.hinted, solved, 0, 0, rows, steps, recipe.processes, data.report)


def _solved(data: LoadedData) -> int:
    return sum(problem.id in data.solutions for problem in data.problems)


def check_contexts(settings: dict[str, Any], data: LoadedData) -> None:
    """Refuse data in which the teacher would have nothing to read."""
    if not settings.get("tutoring_weight", 0) > 0:
        return
    context = context_named(settings.get("tutoring_context", "hint"))
    if context.needs_group and settings.get("num_generations", 8) < 2:
        raise ValueError(
            f"tutoring_context={context.name} with num_generations={settings['num_generations']}: a rollout alone has "
            "no sibling; set num_generations to 2 or more"
        )
    if not context.needs_group and not data.shows(context):
        raise ValueError(
            f"tutoring_weight={settings['tutoring_weight']} and tutoring_context={context.name}, but {context.missing}"
        )


def check_images(processes: int, data: LoadedData) -> None:
    """Engines wait for each other at every part of the model, the vision tower too."""
    without = [problem.id for problem in data.problems if not problem.images]
    if processes > 1 and 0 < len(without) < len(data.problems):
        raise ValueError(
            f"{len(without)} of {len(data.problems)} problems have no image (the first is {without[0]!r}): with "
            "several processes train on problems with images and on those without in separate runs"
        )


def _check_layout(
    settings: dict[str, Any], processes: int, batch: int, accumulation: int, generations: int, rollouts: int
) -> None:
    if rollouts % (batch * processes):
        raise ValueError(
            f"generation_batch_size={rollouts} must be a multiple of per_device_train_batch_size x processes "
            f"({batch} x {processes})"
        )
    if rollouts % generations:
        raise ValueError(f"a generation of {rollouts} rollouts does not hold whole groups of {generations}")
    micro_batches = rollouts // (batch * processes)
    if settings.get("tutoring_weight", 0) > 0 and micro_batches % accumulation:
        raise ValueError(
            f"a generation serves {micro_batches} micro-batches per process, which must be a multiple of "
            f"gradient_accumulation_steps={accumulation}"
        )


def _check_on_this_machine(settings: dict[str, Any]) -> None:
    """Let PTDConfig check ranges and choices; what depends on GPUs and processes is left out."""
    layout = ("generation_batch_size", "steps_per_generation", "gradient_accumulation_steps")
    hardware = ("bf16", "tf32", "use_vllm", "fsdp", "fsdp_config", "deepspeed")
    checked = {k: v for k, v in settings.items() if k not in (*layout, *hardware)}
    checked["per_device_train_batch_size"] = checked.get("num_generations", 8)
    PTDConfig(**{**checked, "use_cpu": True, "bf16": False, "save_strategy": "no"})
