"""What a folder was trained with: written down when a run begins and when it is finished, compared when it goes on."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptdpo.config import Recipe
from ptdpo.data.load import data_hash, source_of
from ptdpo.folders import differences, flat, read_claim, refuse_other
from ptdpo.presets import preset_settings
from ptdpo.train.layout import rollouts_per_generation
from ptdpo.train.plan import resolved_settings, settings_class
from ptdpo.train.settings import PTDConfig

# How the same steps are laid out over processes and micro-batches; their products stand under "layout".
_LAYOUT = {
    "processes",
    "train.per_device_train_batch_size",
    "train.gradient_accumulation_steps",
    "train.generation_batch_size",
    "train.steps_per_generation",
}
_NAMING = {"columns", "allow_unknown", "ignore_question"}
_LENGTH = {"train.max_steps", "train.num_train_epochs"}
# What is reported, where it runs, and what it costs; the numbers are the same.
_BESIDE = {
    f"train.{name}"
    for name in (
        "activation_checkpointing", "activation_checkpointing_kwargs", "dataloader_num_workers",
        "dataloader_persistent_workers", "dataloader_pin_memory", "dataloader_prefetch_factor", "ddp_timeout",
        "disable_tqdm", "ds3_gather_for_generation", "fsdp", "fsdp_config", "gradient_checkpointing",
        "gradient_checkpointing_kwargs", "head", "micro_batch_tokens", "num_completions_to_print",
        "per_device_eval_batch_size", "project", "push_to_hub", "record_groups", "record_steps", "record_tokens",
        "report_to", "run_name", "share_prefix", "skip_idle_rows", "teacher_batch_size", "teacher_on_cpu", "use_cpu",
        "vllm_enable_sleep_mode", "vllm_gpu_memory_utilization", "vllm_group_port", "vllm_mode",
        "vllm_tensor_parallel_size",
    )
}  # fmt: skip
_BESIDE_PREFIXES = tuple(f"train.{prefix}" for prefix in ("eval_", "hub_", "log_", "logging_", "save_", "vllm_server_"))


@dataclass(frozen=True, slots=True)
class RowsOverProcesses:
    """Rows over all processes, which decide what is trained however they are laid out.

    Attributes:
        rows_per_step: of one optimiser step.
        rollouts_per_generation: ``None`` in fine-tuning, which samples none.
    """

    rows_per_step: int
    rollouts_per_generation: int | None


def provenance_of(recipe: Recipe) -> dict[str, Any]:
    """Return what decides the weights that a run ends with, as JSON has it."""
    content = dataclasses.asdict(recipe)
    del content["evaluate"], content["grid"]
    content["train"] = {key: value for key, value in recipe.train.items() if key != "output_dir"}
    # How rows are named is not what they hold: that is in the hash of the files.
    content["data"] = {name: value for name, value in content["data"].items() if name not in _NAMING}
    content["data"]["source"] = source_of(recipe.data)
    read = {"read_from": {"data": data_hash(recipe.data)}}
    rows = {name: count for name, count in dataclasses.asdict(_rows(recipe)).items() if count is not None}
    return json.loads(json.dumps({**content, **read, "layout": rows}, default=str))


def check_same(path: Path, asked: Mapping[str, Any], remedy: str, *, may_go_on: bool = False) -> None:
    """Refuse what was made with other settings: it would count for what is asked now.

    Args:
        path: a claim; nothing is refused if there is none.
        asked: ``provenance_of`` a recipe, or other content; sections that the file lacks are not compared.
        remedy: what to do, the end of the message.
        may_go_on: let a run be prolonged, be laid out over other processes, and report otherwise.

    Raises:
        ValueError: naming each setting that differs, its value in the file and the one asked for.
    """
    kept = read_claim(path)
    if kept is None:
        return
    defaults = _defaults(asked)
    changed = [
        one
        for one in differences({**defaults, **flat(kept)}, {**defaults, **flat(asked)})
        if one.name.partition(".")[0] in kept
        and one.name != "train.output_dir"
        and not (may_go_on and _may_change(one.name))
    ]
    refuse_other(path, sorted(changed, key=lambda one: one.name), remedy)


def _may_change(key: str) -> bool:
    # Settings that are mappings, such as fsdp_config, are compared part by part.
    return ".".join(key.split(".")[:2]) in _LAYOUT | _LENGTH | _BESIDE or key.startswith(_BESIDE_PREFIXES)


def _rows(recipe: Recipe) -> RowsOverProcesses:
    settings = resolved_settings(recipe)
    rows = settings.per_device_train_batch_size * recipe.processes * settings.gradient_accumulation_steps
    if not isinstance(settings, PTDConfig):
        return RowsOverProcesses(rows, None)
    return RowsOverProcesses(rows, rollouts_per_generation(settings, recipe.processes))


def _defaults(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every training setting that a recipe of this preset does not name."""
    if "preset" not in asked:
        return {}
    fields = dataclasses.fields(settings_class(asked["preset"]))
    values = {field.name: field.default for field in fields if field.init}
    values = {key: None if value is dataclasses.MISSING else value for key, value in values.items()}
    values = json.loads(json.dumps({**values, **preset_settings(asked["preset"])}, default=str))
    return {f"train.{key}": value for key, value in values.items()}
