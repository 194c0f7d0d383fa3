"""The presets: a method is a table of values over the defaults of ``PTDConfig``."""

from collections.abc import Mapping
from typing import Any

from ptdpo.values import unknown_name

_PTD: dict[str, Any] = {"tutoring_weight": 0.5, "tutoring_threshold": 1.0, "tutoring_k": 100}
_NO_TUTOR: dict[str, Any] = {"tutoring_weight": 0.0}
# (3): token ratio, clip 0.2, mean over a response and then over responses, k3 KL with weight 0.01.
_GRPO: dict[str, Any] = {"loss_type": "grpo", "epsilon": 0.2, "beta": 0.01}
# Clip-higher, one mean over all tokens of the step, no KL, uninformative groups resampled. The over-long penalty
# depends on the response budget: set overlong_buffer in the recipe.
_DAPO: dict[str, Any] = {
    "loss_type": "dapo",
    "epsilon": 0.2,
    "epsilon_high": 0.28,
    "beta": 0.0,
    "resampling_rounds": 3,
}
# Ratio of whole sequences with its narrow clip, mean over responses, no KL.
_GSPO: dict[str, Any] = {
    "loss_type": "grpo",
    "importance_sampling_level": "sequence",
    "epsilon": 3e-4,
    "epsilon_high": 4e-4,
    "beta": 0.0,
}

_DISTILL: dict[str, Any] = {"rl_weight": 0.0, "beta": 0.0, "tutoring_weight": 1.0, "loss_type": "grpo"}
# (4): another, larger model reads the same question; set tutoring_teacher to its path.
_OPD: dict[str, Any] = {
    **_DISTILL,
    "tutoring_context": "question",
    "tutoring_select": "every",
    "tutoring_divergence": "forward_kl",
    "tutoring_support": "full",
}
# The detached log-ratio of the sampled token as its advantage.
_OPD_SAMPLED: dict[str, Any] = {
    **_DISTILL,
    "tutoring_context": "question",
    "tutoring_select": "every",
    "tutoring_use": "advantage",
}
# The start model reads a worked solution. v1: Jensen-Shannon; v3, the authors' later choice: clipped KL.
_OPSD_V1: dict[str, Any] = {
    **_DISTILL,
    "tutoring_context": "solution",
    "tutoring_select": "every",
    "tutoring_divergence": "jsd",
    "tutoring_support": "full",
}
_OPSD: dict[str, Any] = {**_OPSD_V1, "tutoring_divergence": "forward_kl", "tutoring_clip": 0.05}
# The moving average of the policy reads a right response of the same group.
_SDPO: dict[str, Any] = {
    **_DISTILL,
    "tutoring_teacher": "ema",
    "tutoring_ema_rate": 0.05,
    "tutoring_context": "sibling",
    "tutoring_select": "with_sibling",
    "tutoring_divergence": "jsd",
    "tutoring_support": "student",
    "tutoring_k": 100,
    "tutoring_ratio_clip": 2.0,
}
# Groups that fail as a whole: responses drawn with the answer in view and right, distilled into the policy without it.
_HDPO: dict[str, Any] = {
    "loss_type": "dapo",
    "epsilon": 0.2,
    "beta": 0.0,
    "scale_rewards": "none",
    "leave_one_out": True,
    "tutoring_weight": 0.01,
    "tutoring_teacher": "current",
    "tutoring_context": "answer",
    "tutoring_select": "all_fail_groups",
    "tutoring_rollouts": "teacher",
    "tutoring_mean": "all",
    "tutoring_divergence": "jsd",
    "tutoring_k": 64,
    "tutoring_support": "teacher",
    "tutoring_tail": "student",
}
# Failed rollouts with a right sibling are distilled instead of punished, where the teacher is sure; the rest is GRPO.
_SRPO: dict[str, Any] = {
    "loss_type": "dapo",
    "epsilon": 0.2,
    "beta": 0.0,
    "tutoring_weight": 1.0,
    "tutoring_teacher": "ema",
    "tutoring_ema_rate": 0.05,
    "tutoring_context": "sibling",
    "tutoring_select": "failed_with_sibling",
    "tutoring_keep_rl": False,
    "tutoring_mean": "all",
    "tutoring_divergence": "jsd",
    "tutoring_support": "student",
    "tutoring_k": 100,
    "tutoring_ratio_clip": 2.0,
    "tutoring_gate": "teacher_entropy",
    "tutoring_gate_sharpness": 1.0,
    "tutoring_gate_normalised": True,
}
# Away from the policy that reads a right sibling, as long as that is not too sure.
_ANTISD: dict[str, Any] = {
    "loss_type": "dapo",
    "epsilon": 0.2,
    "beta": 0.0,
    "tutoring_weight": -0.1,
    "tutoring_teacher": "current",
    "tutoring_context": "sibling",
    "tutoring_select": "with_sibling",
    "tutoring_use": "advantage",
    "tutoring_advantage": "jsd",
    "tutoring_standardised": True,
    "tutoring_mean": "all",
    "tutoring_entropy_floor": 0.93,
    "tutoring_entropy_reopen": 1.07,
    "tutoring_entropy_warmup": 5,
}
# The advantage of a response is redistributed over its tokens by what a frozen teacher thinks of them.
_RLSD: dict[str, Any] = {
    "loss_type": "dapo",
    "epsilon": 0.2,
    "epsilon_high": 0.28,
    "delta": 3.0,
    "beta": 0.0,
    "tutoring_context": "solution",
    "tutoring_select": "every",
    "tutoring_use": "reweight",
    "tutoring_weight": 0.5,
    "tutoring_reweight_clip": 0.2,
}
# The advantage of each token moves by what a right sibling says of it and wrong ones do not.
_RLCSD: dict[str, Any] = {
    "loss_type": "dapo",
    "epsilon": 0.2,
    "beta": 0.0,
    "tutoring_teacher": "ema",
    "tutoring_ema_rate": 1.0,
    "tutoring_ema_interval": 10,
    "tutoring_context": "sibling",
    "tutoring_select": "with_sibling",
    "tutoring_contrast": "failed_siblings",
    "tutoring_contrast_siblings": 4,
    "tutoring_use": "shift",
    "tutoring_weight": 0.5,
    "tutoring_shift_scale": 0.02,
    "tutoring_shift_least": 0.02,
    "tutoring_shift_apart": True,
}
# Another model, or the start, looks at a crop that shows what the question asks about; a rollout weighs more that it
# expects more so than when it looks at another crop. No rewards.
_V_ZERO: dict[str, Any] = {
    **_DISTILL,
    "tutoring_context": "question",
    "tutoring_images": "teacher",
    "tutoring_contrast": "images",
    "tutoring_select": "every",
    "tutoring_use": "advantage",
    "tutoring_advantage_clip": 10.0,
    "tutoring_ratio_clip": 1.2,
    "tutoring_evidence_gate": 0.5,
    "tutoring_evidence_penalty": 1.0,
    "tutoring_evidence_most": 2.0,
}
# Groups that fail as a whole answer with a hint, and one right response takes the place of a failed one.
_SCAF_GRPO: dict[str, Any] = {
    **_NO_TUTOR,
    "loss_type": "dapo",
    "epsilon": 0.2,
    "beta": 0.0,
    "hinted_rollouts": 1,
    "hinted_after": 50,
}
# The objective as printed: masked images are scored with gradient, and both entropies are pushed down.
_PAPO_PRINTED: dict[str, Any] = {
    **_GRPO,
    **_NO_TUTOR,
    "epsilon_high": 0.3,
    "perception_weight": 0.02,
    "perception_entropy_weight": 0.05,
    "masked_entropy_weight": 0.05,
}
# What the authors' code trains: the bounded estimator, masked images scored once, one entropy.
_PAPO: dict[str, Any] = {
    **_PAPO_PRINTED,
    "perception_estimator": "code",
    "perception_masked": "rollout",
    "masked_entropy_weight": 0.0,
}

# Cross-entropy on accepted solutions; its settings are those of TRL's SFTConfig.
SFT = "sft"

PRESETS: Mapping[str, Mapping[str, Any]] = {
    SFT: {
        "learning_rate": 1e-5,
        "weight_decay": 0.01,
        "lr_scheduler_type": "cosine",
        "num_train_epochs": 1,
        "logging_steps": 1,
    },
    "grpo": {**_GRPO, **_NO_TUTOR},
    "dapo": {**_DAPO, **_NO_TUTOR},
    "gspo": {**_GSPO, **_NO_TUTOR},
    "ptd-grpo": {**_GRPO, **_PTD},
    "ptd-dapo": {**_DAPO, **_PTD},
    "ptd-gspo": {**_GSPO, **_PTD},
    "opd": _OPD,
    "opd-sampled": _OPD_SAMPLED,
    "opsd": _OPSD,
    "opsd-v1": _OPSD_V1,
    "sdpo": _SDPO,
    "hdpo": _HDPO,
    "rlsd": _RLSD,
    "srpo": _SRPO,
    "antisd": _ANTISD,
    "rlcsd": _RLCSD,
    "v-zero": _V_ZERO,
    "scaf-grpo": _SCAF_GRPO,
    "papo": _PAPO,
    "papo-printed": _PAPO_PRINTED,
}
# What to say of names that presets had.
_RENAMED = {"papo-code": "is called papo now, and what was papo is papo-printed"}


def preset_settings(name: str) -> dict[str, Any]:
    """Return a copy of a preset's settings.

    Raises:
        ValueError: on an unknown preset; suggests the nearest name, or says how it is called now.
    """
    if name in _RENAMED:
        raise ValueError(f"preset={name!r}: {_RENAMED[name]}")
    if name not in PRESETS:
        raise ValueError(f"{unknown_name('preset', name, PRESETS)} (known: {', '.join(PRESETS)})")
    return dict(PRESETS[name])


def settings_over_preset(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a preset, changed by those given.

    Raises:
        ValueError: on an unknown preset, or a tutoring weight given to one of which a tutored form has its own name.
    """
    preset, tutored = preset_settings(name), f"ptd-{name}"
    weight = given.get("tutoring_weight", 0.0)
    if tutored in PRESETS and isinstance(weight, int | float) and weight > 0:
        raise ValueError(
            f"tutoring_weight={weight} with preset {name}, which does not tutor: the tutored form is preset {tutored}; "
            f"for {name} itself say tutoring_weight=0"
        )
    return {**preset, **given}
