"""From a recipe to the memory of its GPUs, and to the fewest changes with which it fits."""

import copy
import dataclasses
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptdpo.config import Recipe
from ptdpo.presets import SFT
from ptdpo.train.layout import layout_of
from ptdpo.train.memory.sizes import config_of, sizes_of
from ptdpo.train.memory.terms import MemoryPlan, Run, Sharding, Workload, memory_plan
from ptdpo.train.plan import resolved_settings
from ptdpo.train.setting_checks import SPLITTABLE_LOSSES
from ptdpo.train.setting_fields import SettingFields

_STAGES: dict[int, Sharding] = {0: "ddp", 1: "zero1", 2: "zero2", 3: "zero3"}


@dataclass(frozen=True, slots=True)
class Change:
    """Something to change in a recipe.

    Attributes:
        words: as it is given on the command line.
        run: the run with it.
    """

    words: str
    run: Run


@dataclass(frozen=True, slots=True)
class Advice:
    """The fewest changes with which a run fits.

    Attributes:
        words: of the changes, none if it fits as it is; all that there are, if they are not enough.
        plan: with them.
    """

    words: tuple[str, ...]
    plan: MemoryPlan


def run_of(
    recipe: Recipe, gpus: int, memory: float, *, prompt: int | None = None, response: int | None = None,
    image: int = 1024,
) -> Run:  # fmt: skip
    """Return all that the memory of a recipe depends on.

    Args:
        recipe: the recipe.
        gpus: that train, one process each.
        memory: of one of them, in GB.
        prompt: tokens of a prompt; ``None``: the longest that the recipe allows.
        response: tokens of a response; ``None``: likewise.
        image: of the prompt; a picture of 1024 x 1024 pixels is 1,024 of Qwen3-VL's.

    Raises:
        ValueError: if the recipe fine-tunes, has no longest response, or its batches do not fit so many processes.
        OSError: if a model's configuration cannot be reached.
    """
    settings = resolved_settings(recipe)
    if not isinstance(settings, SettingFields):
        raise ValueError(f"preset={SFT}: plan is for recipes that make rollouts")
    response = response or settings.max_completion_length
    if response is None:
        raise ValueError("max_completion_length is not set: say the tokens of a response with --response")
    prompt = prompt or recipe.data.max_prompt_tokens
    sizes = sizes_of(config_of(recipe.model))
    load = Workload(prompt, response, min(prompt, image) if sizes.vision else 0)
    other = settings.other_teacher
    taught = None if other is None else sizes_of(config_of(other))
    sharding = sharding_of(settings, gpus)
    return Run(sizes, settings, layout_of(settings, gpus), sharding, load, memory * 1e9, recipe.lora.rank, taught)


def sharding_of(settings: SettingFields, gpus: int) -> Sharding:
    """Return how a recipe's settings part a model among GPUs.

    Raises:
        ValueError: on a ZeRO stage that plan does not know.
    """
    given: Any = settings.deepspeed
    if given:
        content = given if isinstance(given, dict) else json.loads(Path(given).read_text(encoding="utf-8"))
        stage = content.get("zero_optimization", {}).get("stage", 0)
        if stage not in _STAGES:
            raise ValueError(f"deepspeed={given}: there is no ZeRO stage {stage}; plan knows 0 to 3")
        return _STAGES[stage]
    if gpus == 1:
        return "one"
    return "fsdp" if settings.fsdp else "ddp"


def advice_for(run: Run) -> Advice:
    """Return the fewest changes, the mildest of those, with which a run fits its GPUs."""
    plan = memory_plan(run)
    if plan.fits:
        return Advice((), plan)
    for count in range(1, len(_CHANGES) + 1):
        for names in itertools.combinations(_CHANGES, count):
            changed = _changed(run, names)
            if changed is not None and (plan := memory_plan(changed.run)).fits:
                return Advice(tuple(changed.words.split()), plan)
    possible = tuple(name for name in _CHANGES if _changed(run, (name,)) is not None)
    every = _changed(run, possible)
    assert every is not None
    return Advice(tuple(every.words.split()), memory_plan(every.run))


def _changed(run: Run, names: tuple[str, ...]) -> Change | None:
    """Return a run with some changes; ``None`` if one of them is none here."""
    words = []
    for name in names:
        changes = list(_CHANGES[name](run))
        if not changes:
            return None
        words.append(changes[0].words)
        run = changes[0].run
    return Change(" ".join(words), run)


def _with(run: Run, words: str, **settings: Any) -> Change:
    changed = copy.copy(run.settings)
    vars(changed).update(settings)
    sharding = "fsdp" if settings.get("fsdp") else run.sharding
    return Change(words, dataclasses.replace(run, settings=changed, sharding=sharding))


def _checkpointing(run: Run) -> Iterator[Change]:
    if not run.checkpointed:
        yield _with(run, "activation_checkpointing=true", activation_checkpointing=True, gradient_checkpointing=True)


def _sleeping(run: Run) -> Iterator[Change]:
    settings = run.settings
    if settings.use_vllm and settings.vllm_mode == "colocate" and not settings.vllm_enable_sleep_mode:
        yield _with(run, "vllm_enable_sleep_mode=true", vllm_enable_sleep_mode=True)


def _on_cpu(run: Run) -> Iterator[Change]:
    if run.settings.tutors and not run.settings.teacher_on_cpu:
        yield _with(run, "teacher_on_cpu=true", teacher_on_cpu=True)


def _sharded(run: Run) -> Iterator[Change]:
    if run.sharding == "ddp":
        yield _with(run, "fsdp=true", fsdp=True)


def _in_parts(run: Run) -> Iterator[Change]:
    group = run.layout.group
    deepspeed = run.sharding.startswith("zero")
    if run.rows > group and run.settings.loss_type in SPLITTABLE_LOSSES and not deepspeed:
        load = run.workload
        tokens = run.prompts_of(group) * load.prompt + group * load.response
        yield _with(run, f"micro_batch_tokens={tokens}", micro_batch_tokens=tokens)


def _on_a_server(run: Run) -> Iterator[Change]:
    if run.settings.use_vllm and run.settings.vllm_mode == "colocate":
        yield _with(run, "vllm_mode=server", vllm_mode="server")


# From what costs least to what costs most.
_CHANGES = {
    "on_cpu": _on_cpu,
    "sleeping": _sleeping,
    "in_parts": _in_parts,
    "checkpointing": _checkpointing,
    "sharded": _sharded,
    "server": _on_a_server,
}


def room_of_vllm(run: Run) -> tuple[int, int] | None:
    """Return how many tokens vLLM's keys and values have room for, and how many of the longest rows that is.

    ``None`` where no vLLM runs beside the trainer. Its weights are 16 bits wide; a GB goes for its own passes.
    """
    settings, text = run.settings, run.sizes.text
    if not settings.use_vllm or settings.vllm_mode != "colocate":
        return None
    parts = settings.vllm_tensor_parallel_size
    each = kv_bytes(text) / parts
    room = settings.vllm_gpu_memory_utilization * run.memory - 2 * run.sizes.parameters / parts - 1e9
    tokens = max(0, int(room / each))
    return tokens, tokens // (run.workload.prompt + run.workload.response)


def kv_bytes(text: Any) -> int:
    """Return the bytes of the keys and values of one token, 16 bits wide, over all layers."""
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * 2 * text.num_hidden_layers * text.num_key_value_heads * width
