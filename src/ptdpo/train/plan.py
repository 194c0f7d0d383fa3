"""What a recipe would do: everything that can be checked without loading weights."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trl import SFTConfig

from ptdpo.config import Recipe
from ptdpo.data.contexts import context_named
from ptdpo.data.dataset import rl_dataset
from ptdpo.data.load import LoadedData, instruction_of, load_data
from ptdpo.data.teacher_images import TEACHER, TeacherImages
from ptdpo.models.loading import check_model, load_processor, model_config
from ptdpo.presets import SFT, settings_over_preset
from ptdpo.train.layout import Layout, aligned_save_steps, layout_of
from ptdpo.train.settings import PTDConfig, settings_as_written
from ptdpo.train.trl.late_checks import check_model_arguments
from ptdpo.train.trl.recipe_checks import check_recipe_settings
from ptdpo.train.trl.sft import sft_settings
from ptdpo.tutor.rendered import refuse_unread_prompts

# Rows whose rendered prompts a dry run looks at.
_CHECKED_ROWS = 8


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
    vllm_tokens: int | None = None

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
            *([("tokens that vLLM makes room for", str(self.vllm_tokens))] if self.vllm_tokens else []),
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


Settings = PTDConfig | SFTConfig


def settings_class(preset: str) -> type[Settings]:
    """Return the class of a preset's settings."""
    return SFTConfig if preset == SFT else PTDConfig


def resolved_settings(recipe: Recipe) -> Settings:
    """Return the settings of a recipe over those of its preset, and those over TRL's and ours, as written.

    Without ``vllm_max_model_length``, vLLM makes room for the longest prompt that the data may have and a response.

    Raises:
        ValueError: on an unknown setting (suggests the nearest name), or a value of the wrong type or out of range.
    """
    given = settings_over_preset(recipe.preset, recipe.train)
    if recipe.preset == SFT:
        return sft_settings(given)
    settings = settings_as_written(PTDConfig, given)
    if settings.use_vllm and settings.vllm_max_model_length is None and settings.max_completion_length is not None:
        # Else vLLM makes room for as many positions as the model's configuration allows, which may be millions.
        settings.vllm_max_model_length = recipe.data.max_prompt_tokens + settings.max_completion_length
    return settings


def make_plan(recipe: Recipe) -> Plan:
    """Check everything that can be checked without weights, and return what the run would do.

    The model's configuration and processor are read if they can be reached; prompt lengths are checked then.
    Batches are laid out for ``recipe.processes``, whatever this machine has.

    Raises:
        ValueError: on any mistake in the recipe or its data.
    """
    settings = resolved_settings(recipe)
    check_model(recipe.model)
    processor = processor_if_local(recipe.model)
    shown = {"context": context_of(settings), "teacher": teacher_images_of(settings)}
    data = load_data(recipe.data, processor=processor, processes=recipe.processes, **shown)
    plan = plan_of(recipe, settings, data)
    if isinstance(settings, PTDConfig):
        _check_on_this_machine(settings)
        if processor is not None and settings.tutors:
            _check_templates(recipe, settings, data, processor)
    return plan


def _check_templates(recipe: Recipe, settings: PTDConfig, data: LoadedData, processor: Any) -> None:
    """Refuse a chat template that loses the question or what the teacher is shown, as the trainer will."""
    problems = data.problems[:_CHECKED_ROWS]
    rows: Any = rl_dataset(problems, data.hints, instruction=instruction_of(recipe.data), solutions=data.solutions)
    template = settings.chat_template_kwargs if isinstance(settings.chat_template_kwargs, dict) else {}
    refuse_unread_prompts(processor, rows, settings.tutoring_context, images=settings.tutoring_images, **template)


def context_of(settings: Settings) -> str:
    """Return what the teacher reads; fine-tuning has none, and a hint is the longest that a row may carry."""
    return settings.tutoring_context if isinstance(settings, PTDConfig) else "hint"


def teacher_images_of(settings: Settings) -> TeacherImages:
    """Return which images the teacher sees: those of the question where there is no tutoring."""
    return settings.teacher_images if isinstance(settings, PTDConfig) and settings.tutors else TeacherImages()


def plan_of(recipe: Recipe, settings: Settings, data: LoadedData) -> Plan:
    """Check a recipe against its data and return what the run would do; builds no training arguments.

    Args:
        recipe: the recipe.
        settings: ``resolved_settings`` of the recipe.
        data: its data, loaded.

    Raises:
        ValueError: if the data holds too little for one generation or lacks what the teacher reads, or batches do
            not make up whole groups and generations.
    """
    check_model_arguments(settings, _config_if_local(recipe.model))
    made = _sft_plan(recipe, settings, data) if isinstance(settings, SFTConfig) else _rl_plan(recipe, settings, data)
    check_recipe_settings(settings, recipe.processes)
    return made


def _rl_plan(recipe: Recipe, settings: PTDConfig, data: LoadedData) -> Plan:
    check_contexts(settings, data)
    layout = layout_of(settings, recipe.processes)
    aligned_save_steps(settings, layout)
    problems = len(data.problems)
    if layout.prompts > problems:
        raise ValueError(f"one generation takes {layout.prompts} prompts, but the data has only {problems} problems")
    return Plan(
        recipe,
        problems,
        data.hinted,
        _solved(data),
        layout.prompts,
        layout.rollouts,
        layout.prompts_per_step,
        optimiser_steps(settings, layout, problems),
        recipe.processes,
        data.report,
        settings.vllm_max_model_length if settings.use_vllm else None,
    )


def optimiser_steps(settings: PTDConfig, layout: Layout, problems: int) -> int:
    """Return the optimiser steps of a run on so many problems."""
    micro_batches = problems // layout.prompts * layout.micro_batches * layout.iterations
    return _steps(settings, -(-micro_batches // layout.accumulation))


def _steps(settings: Settings, epoch: int) -> int:
    """Return the optimiser steps of a run, counted as transformers does."""
    return settings.max_steps if settings.max_steps > 0 else math.ceil(epoch * settings.num_train_epochs)


def processor_if_local(model: str) -> Any:
    """Return the processor if the model is a folder here; a dry run downloads nothing."""
    if not Path(model).is_dir():
        return None
    model_config(model)
    return load_processor(model)


def _config_if_local(model: str) -> Any:
    return model_config(model) if Path(model).is_dir() else None


def _sft_plan(recipe: Recipe, settings: SFTConfig, data: LoadedData) -> Plan:
    solved = _solved(data)
    if not solved:
        raise ValueError("preset=sft but no problem has a solution: set data.solutions to a solutions file")
    rows = settings.per_device_train_batch_size * recipe.processes * settings.gradient_accumulation_steps
    steps = _steps(settings, -(-solved // rows))
    return Plan(recipe, len(data.problems), data.hinted, solved, 0, 0, rows, steps, recipe.processes, data.report)


def _solved(data: LoadedData) -> int:
    return sum(problem.id in data.solutions for problem in data.problems)


def check_contexts(settings: PTDConfig, data: LoadedData) -> None:
    """Refuse data in which the teacher would have nothing to read."""
    if settings.hints_rollouts and not data.shows(context_named("hints")):
        raise ValueError(f"hinted_rollouts={settings.hinted_rollouts}, but {context_named('hints').missing}")
    if not settings.tutors:
        return
    columns = settings.teacher_images.columns
    for column in columns:
        if not any(getattr(problem, column) for problem in data.problems):
            setting = "tutoring_images" if column == TEACHER else "tutoring_contrast"
            raise ValueError(
                f"{setting}={getattr(settings, setting)}, but no problem has {column}: use data with that column, or "
                f"leave {setting} out"
            )
    context = context_named(settings.tutoring_context)
    if not context.needs_group and not data.shows(context):
        raise ValueError(
            f"tutoring_weight={settings.tutoring_weight} and tutoring_context={context.name}, but {context.missing}"
        )
    # What a group gives its teacher is known later: then the images alone count.
    if columns and not data.shows(context_named("question") if context.needs_group else context, columns):
        raise ValueError(
            f"tutoring_images={settings.tutoring_images} and tutoring_contrast={settings.tutoring_contrast}, but no "
            f"problem has all that the teacher reads: {', '.join(columns)} and what tutoring_context={context.name} "
            "shows must stand in the same rows"
        )


def _check_on_this_machine(settings: PTDConfig) -> None:
    """Build training arguments, as training will; what depends on GPUs and processes is left out."""
    dataclasses.replace(
        settings,
        per_device_train_batch_size=settings.num_generations,
        gradient_accumulation_steps=1,
        generation_batch_size=None,
        steps_per_generation=None,
        use_cpu=True,
        bf16=False,
        tf32=None,
        use_vllm=False,
        ddp_backend=None,
        fsdp=None,
        fsdp_config=None,
        deepspeed=None,
        save_strategy="no",
    )
