"""The model card of a run: what was trained on what, by which settings; nothing that was not done."""

from typing import TYPE_CHECKING

import yaml

from ptdpo.data.load import source_of
from ptdpo.train.settings import PTDConfig

if TYPE_CHECKING:
    from ptdpo.train.plan import Plan, Settings

MODEL_CARD = "README.md"


def model_card(plan: "Plan", settings: "Settings") -> str:
    """Return the card as Markdown, with the header that the hub reads."""
    recipe = plan.recipe
    header = {"base_model": recipe.model, "library_name": "transformers", "tags": ["ptdpo", recipe.preset]}
    if recipe.lora.rank:
        header["library_name"] = "peft"
    data = recipe.data
    rows = [
        ("preset", recipe.preset),
        ("base model", recipe.model),
        ("data", f"{data.path or source_of(data)} ({source_of(data)}), {plan.problems} problems"),
        ("optimiser steps", str(plan.optimiser_steps)),
        ("learning rate", str(settings.learning_rate)),
    ]
    if recipe.lora.rank:
        rows.append(("LoRA", f"rank {recipe.lora.rank}, alpha {recipe.lora.alpha}"))
    if isinstance(settings, PTDConfig):
        rows += [("rollouts per prompt", str(settings.num_generations)), *_tutoring(plan, settings)]
    else:
        rows.append(("solutions", f"{data.solutions}, of {plan.solved} problems"))
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return (
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n\n# {recipe.preset} from {recipe.model}\n\n"
        f"Trained with ptdpo. No result is claimed here: `ptdpo evaluate` measures it.\n\n| | |\n|---|---|\n{table}\n"
    )


_SEES = {"teacher": "teacher_images in the place of the images", "both": "teacher_images beside the images"}


def _tutoring(plan: "Plan", settings: PTDConfig) -> list[tuple[str, str]]:
    if not settings.tutors:
        return [("tutoring", "none")]
    rows = [
        ("teacher", settings.tutoring_teacher),
        ("teacher reads", settings.tutoring_context),
        *([("teacher sees", _SEES[settings.tutoring_images])] if settings.tutoring_images != "question" else []),
        ("lambda", str(settings.tutoring_weight)),
    ]
    if settings.tutoring_context == "hint":
        rows.append(("hints", f"{plan.recipe.data.hints or 'in the data'}, of {plan.hinted} problems"))
    if settings.tutoring_context == "solution":
        rows.append(("solutions", f"{plan.recipe.data.solutions or 'in the data'}, of {plan.solved} problems"))
    return rows
