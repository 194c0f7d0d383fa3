"""Settings of TRL and transformers that would end a run at its first step, or that nothing would heed.

Each is refused with what to do. What nothing heeds and what changes nothing that is trained, ``eval_steps`` say, stays.
"""

import dataclasses
import inspect
import multiprocessing
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from accelerate.utils import DynamoBackend
from torch.utils.checkpoint import checkpoint
from transformers import GenerationConfig, PretrainedConfig, Trainer, TrainingArguments
from transformers.generation.configuration_utils import ALL_CACHE_IMPLEMENTATIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.training_args import OptimizerNames
from transformers.utils import is_flash_attn_2_available
from transformers.utils.logging import log_levels

from ptdpo.models.loading import reads_images
from ptdpo.train.settings import PTDConfig
from ptdpo.values import unknown_name

# Schedules that read neither a warm-up nor arguments, or no arguments.
_WITHOUT_WARMUP, _WITHOUT_ARGUMENTS = {"constant"}, {"constant", "constant_with_warmup", "inverse_sqrt"}
# Of the sampler in ``generation_kwargs``: which setting it is here; scoring reads that.
_OWN = {
    **dict.fromkeys(("max_new_tokens", "max_length", "max_tokens"), "max_completion_length"),
    **dict.fromkeys(("n", "num_return_sequences"), "num_generations"),
    **{name: name for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "cache_implementation")},
}  # fmt: skip
# Under these the engine returns something else than one sampled row per prompt.
_UNSAMPLED = {
    "do_sample", "num_beams", "num_beam_groups", "return_dict_in_generate", "output_scores", "output_logits",
    "output_attentions", "output_hidden_states", "stop_strings", "guidance_scale", "assistant_early_exit",
    "eos_token_id", "pad_token_id", "bos_token_id", "penalty_alpha", "dola_layers", "constraints", "force_words_ids",
    "early_stopping", "prompt_lookup_num_tokens", "num_assistant_tokens", "use_cache", "decoder_start_token_id",
    "forced_eos_token_id", "forced_bos_token_id", "watermarking_config",
}  # fmt: skip
# Arguments of ``apply_chat_template`` that belong to who calls it.
_CALLERS = {"tokenize", "add_generation_prompt", "continue_final_message", "return_dict", "return_tensors", "padding",
            "truncation", "max_length", "conversation", "messages"}  # fmt: skip

# What ``from_pretrained`` takes beside the fields of a model's configuration.
_LOADING = (
    "dtype", "torch_dtype", "attn_implementation", "experts_implementation", "device_map", "max_memory", "tp_plan",
    "tp_size", "quantization_config", "low_cpu_mem_usage", "offload_folder", "offload_buffers", "use_safetensors",
    "use_kernels", "key_mapping", "variant", "weights_only", "revision", "trust_remote_code", "token", "cache_dir",
    "local_files_only", "subfolder", "force_download", "proxies",
)  # fmt: skip


def check_late(settings: TrainingArguments, processes: int) -> None:
    """Refuse settings that would be found wrong after weights were loaded, or never.

    Args:
        settings: as written.
        processes: how many the recipe is laid out for.

    Raises:
        ValueError: naming the setting, its value and what to do.
    """
    _check_machine(settings, processes)
    _check_checkpointing(settings)
    _check_optimiser(settings)
    _check_schedule_heeded(settings)
    _check_loader(settings)
    if isinstance(settings, PTDConfig):
        _check_sampling(settings)
        _check_order(settings)


def check_model_arguments(settings: TrainingArguments, config: PretrainedConfig | None) -> None:
    """Refuse arguments of the model's loading that it does not take, and settings that the model has no part for.

    Args:
        settings: as written.
        config: of the model; ``None`` if it is not here.

    Raises:
        ValueError: naming the setting, its value and what to do.
    """
    arguments: Any = getattr(settings, "model_init_kwargs", None)
    given = arguments if isinstance(arguments, Mapping) else {}
    where = "model_init_kwargs"
    dtype = given.get("dtype", given.get("torch_dtype"))
    if isinstance(dtype, str) and dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ValueError(f"{where}.dtype={dtype}: must be auto or the name of a type of torch, such as bfloat16")
    _check_attention(given.get("attn_implementation"), f"{where}.attn_implementation")
    quantised = given.get("quantization_config")
    bits = isinstance(quantised, Mapping) and {"load_in_4bit", "load_in_8bit"} & set(quantised)
    if bits and find_spec("bitsandbytes") is None:
        raise ValueError(f"{where}.quantization_config: its package is not installed here: pip install bitsandbytes")
    if config is None:
        return
    for name in given:
        if name not in _LOADING and not hasattr(config, name):
            raise unknown_name(f"key of {where}", name, [*_LOADING, *config.to_dict()])
    text_only = {
        "cast_lm_head_to_fp32": "TRL finds no head in a model that reads images",
        "use_transformers_continuous_batching": "transformers does so for models of text only",
        "use_transformers_paged": "transformers does so for models of text only",
    }
    for name, why in text_only.items():
        if getattr(settings, name, False) and reads_images(config):
            raise ValueError(f"{name}=True: {why}; leave it out")
    ids = getattr(config.get_text_config(), "vocab_size", None)
    if isinstance(settings, PTDConfig) and settings.tutors and ids and settings.tutoring_k > ids:
        raise ValueError(
            f"tutoring_k={settings.tutoring_k}: the model has only {ids} ids; set tutoring_support=full to compare all"
        )
    coefficient = getattr(settings, "router_aux_loss_coef", None)
    if coefficient and not any(hasattr(one, "router_aux_loss_coef") for one in (config, config.get_text_config())):
        raise ValueError(f"router_aux_loss_coef={coefficient}: the model has no experts to route to; leave it out")


def _check_attention(asked: Any, where: str) -> None:
    # With a slash it names a kernel of the hub.
    if not isinstance(asked, str) or "/" in asked:
        return
    _named(where, asked, ["eager", *ALL_ATTENTION_FUNCTIONS.valid_keys()])
    if asked == "flash_attention_2" and not is_flash_attn_2_available():
        raise ValueError(f"{where}={asked}: its package is not installed here: pip install flash-attn, or choose sdpa")


def _named(name: str, value: Any, known: Any) -> None:
    if value not in known:
        raise unknown_name(name, value, list(map(str, known)))


def _check_machine(settings: TrainingArguments, processes: int) -> None:
    for name in ("log_level", "log_level_replica"):
        _named(name, getattr(settings, name), ["passive", *log_levels])
    if settings.tf32 and settings.use_cpu:
        raise ValueError("tf32=True with use_cpu=True: only GPUs have it; leave it out")
    if settings.ddp_backend is not None:
        _named("ddp_backend", settings.ddp_backend, torch.distributed.Backend.backend_list[1:])
        if processes == 1:
            raise ValueError(
                f"ddp_backend={settings.ddp_backend}: one process has none; set processes, or leave it out"
            )
    if settings.max_steps == 0:
        raise ValueError("max_steps=0: set it to at least 1, or to -1 for num_train_epochs")
    if settings.ddp_timeout <= 0:
        raise ValueError(f"ddp_timeout={settings.ddp_timeout}: must be at least 1 second")
    if settings.torch_compile_backend is not None:
        backends = [one.value.lower() for one in DynamoBackend]
        _named("torch_compile_backend", settings.torch_compile_backend.lower(), backends)
    if settings.torch_compile_mode is not None:
        _named("torch_compile_mode", settings.torch_compile_mode, list(torch._inductor.list_mode_options()))
    if settings.parallelism_config is not None:
        raise ValueError("parallelism_config: is no setting of a recipe: use fsdp or deepspeed")
    if settings.fsdp_config and not settings.fsdp:
        raise ValueError("fsdp_config without fsdp: nothing would read it; set fsdp=true, or leave it out")


def _check_checkpointing(settings: TrainingArguments) -> None:
    known = [name for name in inspect.signature(checkpoint).parameters if name not in ("function", "args", "kwargs")]
    for name in ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"):
        given = getattr(settings, name, None)
        for key in given if isinstance(given, Mapping) else ():
            _named(f"key of {name}", key, known)


def _check_optimiser(settings: TrainingArguments) -> None:
    """Look for the optimiser's package, and for arguments that it does not read."""
    _named("optim", str(getattr(settings.optim, "value", settings.optim)), [one.value for one in OptimizerNames])
    asked = _optimiser(settings, settings.optim_args)
    if settings.optim_args and asked == _optimiser(settings, None):
        raise ValueError(f"optim_args={settings.optim_args}: optim={settings.optim} reads none of them; leave it out")
    if settings.optim_target_modules and not str(settings.optim).rpartition(".")[2].startswith(("galore", "apollo")):
        raise ValueError(
            f"optim_target_modules={settings.optim_target_modules}: only galore and apollo read it, not "
            f"optim={settings.optim}; leave it out (lora.target_modules are those of an adapter)"
        )


def _optimiser(settings: TrainingArguments, arguments: str | None) -> Any:
    asked = object.__new__(type(settings))
    vars(asked).update({**vars(settings), "optim": OptimizerNames(settings.optim), "optim_args": arguments})
    model: Any = torch.nn.Linear(1, 1)
    try:
        _, found = Trainer.get_optimizer_cls_and_kwargs(asked, model)
    except (ImportError, ValueError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"optim={settings.optim}: {' '.join(str(error).split())}; choose another, or install it"
        ) from error
    return {name: value for name, value in found.items() if not isinstance(value, list)}


def _check_schedule_heeded(settings: TrainingArguments) -> None:
    schedule = str(getattr(settings.lr_scheduler_type, "value", settings.lr_scheduler_type))
    if settings.warmup_steps and schedule in _WITHOUT_WARMUP:
        raise ValueError(
            f"warmup_steps={settings.warmup_steps} with lr_scheduler_type={schedule}: a constant learning rate has no "
            "warm-up; set lr_scheduler_type=constant_with_warmup, or leave it out"
        )
    if settings.lr_scheduler_kwargs and schedule in _WITHOUT_ARGUMENTS:
        raise ValueError(
            f"lr_scheduler_kwargs={settings.lr_scheduler_kwargs}: lr_scheduler_type={schedule} reads none of them"
        )


def _check_loader(settings: TrainingArguments) -> None:
    context = settings.dataloader_multiprocessing_context
    if context is not None:
        _named("dataloader_multiprocessing_context", context, multiprocessing.get_all_start_methods())
    for name in ("dataloader_persistent_workers", "dataloader_multiprocessing_context", "dataloader_prefetch_factor"):
        value = getattr(settings, name)
        if value and not settings.dataloader_num_workers:
            raise ValueError(
                f"{name}={value} with dataloader_num_workers=0: there are no workers; set their number too"
            )
    if settings.auto_find_batch_size:
        raise ValueError("auto_find_batch_size=True: a smaller batch would be another run; leave it out")
    own = settings.accelerator_config if isinstance(settings.accelerator_config, Mapping) else {}
    known = [f.name for f in dataclasses.fields(AcceleratorConfig)]
    for name in own:
        _named("key of accelerator_config", name, known)
    for name in ("dispatch_batches", "split_batches"):
        if own.get(name):
            raise ValueError(f"accelerator_config.{name}=true: rows are laid out in whole groups; leave it out")


def _check_order(settings: PTDConfig) -> None:
    """Refuse other ways to order prompts than TRL's sampler of groups has."""
    others = {
        "data_seed": (settings.data_seed is not None, "the order of prompts follows seed"),
        "train_sampling_strategy": (
            settings.train_sampling_strategy != "random",
            "prompts are drawn in groups; shuffle_dataset=false keeps their order",
        ),
        "label_smoothing_factor": (settings.label_smoothing_factor != 0, "no loss here has labels"),
    }
    for name, (asked, why) in others.items():
        if asked:
            raise ValueError(f"{name}={getattr(settings, name)}: nothing reads it: {why}; leave it out")


def _check_sampling(settings: PTDConfig) -> None:
    if settings.top_k == -1 and not settings.use_vllm:
        raise ValueError("top_k=-1: transformers takes 0 for no limit (-1 is vLLM's); set top_k=0")
    padded = settings.pad_to_multiple_of
    if padded not in (None, "auto") and not (str(padded).isdigit() and int(padded) >= 1):
        raise ValueError(f"pad_to_multiple_of={padded}: must be auto or a whole number, at least 1")
    cache = settings.cache_implementation
    if cache is not None:
        _named("cache_implementation", cache, ALL_CACHE_IMPLEMENTATIONS)
        if cache == "quantized" and find_spec("optimum") is None:
            raise ValueError(
                "cache_implementation=quantized: its package is not installed here: pip install optimum-quanto"
            )
    if settings.delta is not None and settings.delta <= 1 + settings.epsilon:
        raise ValueError(
            f"delta={settings.delta}: cuts ratios from above, where they are not clipped: must be more than "
            f"1 + epsilon = {1 + settings.epsilon:g}"
        )
    if settings.use_adaptive_entropy and settings.entropy_coef_min > settings.entropy_coef_max:
        raise ValueError(
            f"entropy_coef_min={settings.entropy_coef_min}: must not exceed entropy_coef_max="
            f"{settings.entropy_coef_max}"
        )
    _check_generation(settings)
    for name in settings.chat_template_kwargs or {} if isinstance(settings.chat_template_kwargs, Mapping) else {}:
        if name in _CALLERS:
            raise ValueError(f"chat_template_kwargs.{name}: is set by the trainer; leave it out")


def _check_generation(settings: PTDConfig) -> None:
    """Refuse arguments of the sampler that scoring would not know of, or that nobody reads."""
    given = settings.generation_kwargs if isinstance(settings.generation_kwargs, Mapping) else {}
    for name, value in given.items():
        if name in _OWN:
            raise ValueError(
                f"generation_kwargs.{name}={value}: scoring would not know of it; set {_OWN[name]} in its place"
            )
        if settings.use_vllm:
            continue
        if name in _UNSAMPLED:
            raise ValueError(f"generation_kwargs.{name}={value}: rollouts are sampled row by row; leave it out")
        _named("key of generation_kwargs", name, list(vars(GenerationConfig())))
