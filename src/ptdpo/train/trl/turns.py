"""Rollouts of several turns, with tools, environments or rollout functions of TRL: what the teacher needs of them."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from trl import GRPOTrainer

from ptdpo.models.family import PIXELS, family_of
from ptdpo.models.loading import tokenizer_of
from ptdpo.models.reading import read_prompts
from ptdpo.tutor.context import images_of
from ptdpo.tutor.teacher import Turns


def template_of(trainer: GRPOTrainer) -> dict[str, Any]:
    """Return the arguments of the chat template with which the trainer writes the policy's prompts."""
    given = cast(dict[str, Any], trainer.chat_template_kwargs)
    # Without any, templates of Llama 3 would write that there are tools.
    return {"chat_template": trainer.chat_template, "tools": trainer.tools or None, **given}


def row_templates(trainer: GRPOTrainer, environments: Sequence[Any]) -> list[dict[str, Any]]:
    """Return what of ``template_of`` is each row's own: the tools of its environment, where there are several.

    Args:
        trainer: of TRL.
        environments: the name of each row's; one that is not known is for TRL to refuse.
    """
    if not trainer._multi_environment:
        return [{} for _ in environments]
    return [{"tools": trainer._env_tools.get(name) or None} for name in environments]


def turns_of(trainer: GRPOTrainer, columns: Mapping[str, Any], images: Sequence[Sequence[Any]]) -> list[Turns] | None:
    """Return what the rollouts of TRL's batch have of several turns; ``None``: they have one.

    Args:
        trainer: has just sampled them.
        columns: TRL's batch. It has no pixels where it had to cut a response within an image; it then shows none.
        images: those that tools answered with, for each rollout; empty: none.

    Raises:
        ValueError: if there are any, and the image tensors of the model's family do not tell which image is whose.
    """
    _refuse_images(trainer, images)
    rows = len(columns["completion_ids"])
    if not trainer._multi_environment and not any(images):
        return None
    names = trainer._batch_environments if trainer._multi_environment else [None] * rows
    shown = images or [()] * rows
    return [
        Turns(template, own if PIXELS in columns or not own else None)
        for template, own in zip(row_templates(trainer, names), shown, strict=True)
    ]


def _refuse_images(trainer: GRPOTrainer, images: Sequence[Sequence[Any]]) -> None:
    config: Any = trainer.accelerator.unwrap_model(trainer.model).config
    if any(images) and family_of(config).layout != "grid":
        raise ValueError(
            f"a tool answered with an image: for model type {config.model_type!r} tutoring cannot show the teacher "
            "which image is whose; answer in text, train a model of the Qwen-VL family, or set tutoring_weight=0"
        )


def check_own_prompts(trainer: GRPOTrainer, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Any]) -> None:
    """Refuse a rollout function that writes prompts otherwise than the chat template: the teacher reads that.

    Raises:
        ValueError: names the row and shows both.
    """
    tokenizer: Any = tokenizer_of(trainer.processing_class)
    for number, row in enumerate(rows):
        prompt = row["prompt"]
        read = read_prompts(trainer.processing_class, [prompt], [images_of(row)], **template_of(trainer))
        ids = columns["prompt_ids"][number][columns["prompt_mask"][number].bool()].tolist()
        if read["input_ids"][0].tolist() != ids:
            theirs, ours = tokenizer.decode(ids), tokenizer.decode(read["input_ids"][0])
            raise ValueError(
                f"row {row.get('id', number)}: rollout_func wrote the prompt as {theirs!r}, the chat template of the "
                f"teacher as {ours!r}: use the trainer's chat_template and chat_template_kwargs in rollout_func"
            )
