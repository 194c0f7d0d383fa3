"""What a recipe may not ask for: packages that are not here, and settings that only code around a trainer can serve.

Said before weights are loaded, by the dry run and by training alike.
"""

from importlib.util import find_spec

import torch
from huggingface_hub import get_token
from transformers import TrainingArguments, get_scheduler
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations
from transformers.utils import is_liger_kernel_available
from trl.import_utils import is_vllm_available

from ptdpo.train.setting_checks import check_correction
from ptdpo.train.settings import PTDConfig
from ptdpo.train.trl.late_checks import check_late
from ptdpo.values import unknown_name

# Accuracy and format: those of every recipe.
_REWARDS = ("accuracy_reward", "format_reward")


def check_recipe_settings(settings: TrainingArguments, processes: int) -> None:
    """Refuse settings with which a recipe's run would end late, or which it would not heed.

    Args:
        settings: as written, see ``settings_as_written``.
        processes: how many processes the recipe is laid out for.

    Raises:
        ValueError: naming the setting, its value and what to do.
    """
    _check_reports(settings)
    _check_packages(settings)
    _check_unheeded(settings)
    _check_schedule(settings)
    check_late(settings, processes)
    for name in ("push_to_hub", "log_completions_hub_repo"):
        asked = getattr(settings, name, None)
        if asked and not (settings.hub_token or get_token()):
            raise ValueError(f"{name}={asked}: nobody is logged in here: run hf auth login, or leave it out")
    if settings.use_cpu and settings.fp16:
        raise ValueError("fp16=True with use_cpu=True: half precision needs a GPU; set fp16=false")
    if settings.fsdp and processes == 1:
        raise ValueError(f"fsdp={settings.fsdp}: needs several processes; set processes, or leave it out")
    if isinstance(settings, PTDConfig):
        _check_rl(settings)


def _check_reports(settings: TrainingArguments) -> None:
    asked = [settings.report_to] if isinstance(settings.report_to, str) else settings.report_to or []
    for name in asked:
        if name in ("all", "none"):
            continue
        if name not in INTEGRATION_TO_CALLBACK:
            raise unknown_name("place for report_to", name, ["none", "all", *INTEGRATION_TO_CALLBACK])
        if name not in get_available_reporting_integrations():
            raise ValueError(f"report_to={name}: its package is not installed here: install it, or set report_to=none")
    if "wandb" in asked and getattr(settings, "log_completions", False):
        raise ValueError(
            "log_completions=True with report_to=wandb: wandb's tables take no prompts made of parts; set "
            "log_completions=false (examples.jsonl has rollouts token by token), or report elsewhere"
        )


def _check_packages(settings: TrainingArguments) -> None:
    wanted = {
        "use_liger_kernel": (settings.use_liger_kernel, is_liger_kernel_available(), "liger-kernel"),
        "use_vllm": (getattr(settings, "use_vllm", False), is_vllm_available(), "'ptdpo[vllm]'"),
        "deepspeed": (settings.deepspeed, find_spec("deepspeed") is not None, "'ptdpo[deepspeed]'"),
    }
    for name, (asked, here, package) in wanted.items():
        if asked and not here:
            raise ValueError(
                f"{name}={asked}: its package is not installed here: pip install {package}, or leave it out"
            )


def _check_unheeded(settings: TrainingArguments) -> None:
    if settings.resume_from_checkpoint:
        raise ValueError(
            f"resume_from_checkpoint={settings.resume_from_checkpoint}: a recipe goes on from the newest checkpoint of "
            "its output_dir by itself: leave it out, and set output_dir to the folder that holds the checkpoint"
        )
    evaluates = {
        "eval_strategy": settings.eval_strategy != "no" and settings.eval_strategy,
        "eval_on_start": settings.eval_on_start,
        "do_eval": settings.do_eval,
        "load_best_model_at_end": settings.load_best_model_at_end,
        "save_strategy": settings.save_strategy == "best" and "best",
    }
    for name, asked in evaluates.items():
        if asked:
            raise ValueError(
                f"{name}={asked}: a recipe evaluates nothing while it trains: leave it out, and use ptdpo evaluate or "
                "ptdpo compare on what it leaves"
            )


def _check_schedule(settings: TrainingArguments) -> None:
    """Build the schedule of a parameter that does not matter."""
    kwargs = settings.lr_scheduler_kwargs
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    try:
        get_scheduler(
            settings.lr_scheduler_type, optimiser, num_warmup_steps=1, num_training_steps=10,
            scheduler_specific_kwargs=dict(kwargs) if isinstance(kwargs, dict) else None,
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"lr_scheduler_type={settings.lr_scheduler_type} with lr_scheduler_kwargs={kwargs}: {error}"
        ) from error


def _check_rl(settings: PTDConfig) -> None:
    check_correction(settings)
    if settings.generation_batch_size and settings.steps_per_generation:
        raise ValueError(
            f"generation_batch_size={settings.generation_batch_size} with steps_per_generation="
            f"{settings.steps_per_generation}: each follows from the other; set one of them"
        )
    if settings.remove_unused_columns:
        raise ValueError("remove_unused_columns=True: answers and hints would be taken away; leave it out")
    if settings.reward_weights is not None and len(settings.reward_weights) != len(_REWARDS):
        raise ValueError(
            f"reward_weights={settings.reward_weights}: a recipe has two rewards, {' and '.join(_REWARDS)}"
        )
    if settings.reward_weights is not None and not any(settings.reward_weights) and settings.rl_weight:
        raise ValueError(
            f"reward_weights={settings.reward_weights}: no reward is left; set rl_weight=0 to train without"
        )
    if settings.accuracy_reward not in _REWARDS:
        raise ValueError(f"accuracy_reward={settings.accuracy_reward!r}: a recipe has {' and '.join(_REWARDS)}")
