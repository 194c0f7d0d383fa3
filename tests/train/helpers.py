"""Small training settings and rewards for tests."""

from ptdpo.rewards.functions import completion_text


def small_settings(**changes):
    return {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "num_generations": 4,
        "max_completion_length": 8,
        "max_steps": 1,
        "learning_rate": 1e-3,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "activation_checkpointing": False,
        **changes,
    }


def length_reward(completions, **_):
    """A reward that varies inside every group, so that advantages are not all zero."""
    return [len(completion_text(c)) / 10 for c in completions]
