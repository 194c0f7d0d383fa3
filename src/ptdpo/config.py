"""The presets, and the typed content of a recipe. No torch: reading a recipe is instant."""

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from ptdpo.values import COUNT, NOT_NEGATIVE, SHARE, Range, check_range, typed_value, unknown_name

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
# The objective as printed: masked images are scored with gradient, and both entropies are pushed down.
_PAPO: dict[str, Any] = {
    **_GRPO,
    **_NO_TUTOR,
    "epsilon_high": 0.3,
    "perception_weight": 0.02,
    "perception_entropy_weight": 0.05,
    "masked_entropy_weight": 0.05,
}
# What the authors' code trains: the bounded estimator, masked images scored once, one entropy.
_PAPO_CODE: dict[str, Any] = {
    **_PAPO,
    "perception_estimator": "code",
    "perception_masked": "rollout",
    "masked_entropy_weight": 0.0,
}

# Cross-entropy on accepted solutions; its settings are those of TRL's SFTConfig.
SFT = "sft"

PRESETS: Mapping[str, Mapping[str, Any]] = {
    SFT: {"learning_rate": 1e-5, "weight_decay": 0.01, "lr_scheduler_type": "cosine", "num_train_epochs": 1},
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
    "papo": _PAPO,
    "papo-code": _PAPO_CODE,
}


def preset_settings(name: str) -> dict[str, Any]:
    """Return a copy of a preset's settings.

    Raises:
        ValueError: on an unknown preset; suggests the nearest name.
    """
    if name not in PRESETS:
        raise ValueError(f"{unknown_name('preset', name, PRESETS)} (known: {', '.join(PRESETS)})")
    return dict(PRESETS[name])


Source = Literal["jsonl", "parquet", "hub", "easy-vqa"]
BadRows = Literal["refuse", "drop"]


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Where problems come from and what is done with bad ones.

    Attributes:
        source: ``jsonl`` (problems file), ``parquet`` (files in the reference's schema), ``hub`` (data set id),
            ``easy-vqa`` (the PyPI package).
        path: file, folder or hub id; not used by easy-vqa.
        split: split of a hub data set or of easy-vqa.
        hints: hints file, empty for none.
        solutions: solutions file, for methods that show the teacher a worked solution; empty for none.
        limit: use only so many rows, drawn at random with ``seed``.
        seed: of that draw.
        instruction: appended to every question; ``None`` for the standard thinking instruction.
        bad_rows: ``refuse`` the data if any row is bad, or ``drop`` bad rows; both list them by id.
        max_prompt_tokens: longer prompts, images and whatever the teacher reads included (a hint always; answer or
            solution if the preset shows it), are bad rows.
    """

    source: Source = "jsonl"
    path: str = ""
    split: str = "train"
    hints: str = ""
    solutions: str = ""
    limit: int | None = None
    seed: int = 0
    instruction: str | None = None
    bad_rows: BadRows = "refuse"
    max_prompt_tokens: int = 8192


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """A LoRA adapter in place of full training; ``rank`` 0 means full training."""

    rank: int = 0
    alpha: int = 64
    target_modules: tuple[str, ...] | str = "all-linear"


@dataclass(frozen=True, slots=True)
class EvaluateSettings:
    """What a comparison answers after training, question only; not used by training itself.

    Attributes:
        validation: problems file on which settings are chosen.
        test: problems file on which recipes are compared.
        max_new_tokens: longest response.
        temperature: of sampling.
        top_p: nucleus.
        samples: responses per question.
        batch_size: questions per batch.
    """

    validation: str = ""
    test: str = ""
    max_new_tokens: int = 4096
    temperature: float = 1.0
    top_p: float = 1.0
    samples: int = 1
    batch_size: int = 64


@dataclass(frozen=True, slots=True)
class Recipe:
    """One runnable experiment.

    ``{seed}`` in a text stands for ``train.seed``, so that each seed may have its own model, data and folder.

    Attributes:
        preset: a name of ``PRESETS``.
        model: folder or hub id of the start model.
        data: where problems come from.
        train: settings of ``PTDConfig`` over those of the preset.
        lora: a LoRA adapter, if any.
        evaluate: what a comparison answers after training.
        grid: settings among which a comparison chooses: key -> values.
        processes: how many processes the recipe is laid out for; checked against the launcher.
    """

    preset: str
    model: str
    data: DataSettings = field(default_factory=DataSettings)
    train: Mapping[str, Any] = field(default_factory=dict)
    lora: LoraSettings = field(default_factory=LoraSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    processes: int = 1


# Numbers of a recipe's records that no run can have are refused where the recipe is read.
_RANGES: Mapping[tuple[type, str], Range] = {
    (DataSettings, "limit"): COUNT,
    (DataSettings, "max_prompt_tokens"): COUNT,
    (LoraSettings, "rank"): NOT_NEGATIVE,
    (LoraSettings, "alpha"): COUNT,
    (EvaluateSettings, "max_new_tokens"): COUNT,
    (EvaluateSettings, "temperature"): NOT_NEGATIVE,
    (EvaluateSettings, "top_p"): SHARE,
    (EvaluateSettings, "samples"): COUNT,
    (EvaluateSettings, "batch_size"): COUNT,
    (Recipe, "processes"): COUNT,
}


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a YAML recipe and apply ``key=value`` overrides such as ``train.learning_rate=2e-6``.

    A key without a dot that is not a field of the recipe is taken as a training setting.

    Raises:
        ValueError: if the file is missing or not YAML, a key is unknown, or a value has the wrong type; names
            the file and the key.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such recipe")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a recipe is a mapping of keys to values")
    for override in overrides:
        _override(content, override)
    return _recipe(_with_seed(content), str(path))


def _with_seed(content: dict[str, Any]) -> dict[str, Any]:
    """Put the seed in the place of ``{seed}`` everywhere."""
    train = content.get("train") or {}
    seed = train.get("seed", 0) if isinstance(train, dict) else 0

    def filled(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("{seed}", str(seed))
        return {key: filled(part) for key, part in value.items()} if isinstance(value, dict) else value

    return {key: filled(value) for key, value in content.items()}


def parse_value(text: str, where: str) -> Any:
    """Return a value given on the command line, read as YAML.

    Raises:
        ValueError: if it is not a value; names ``where``.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{where}: {text!r} is not a YAML value") from error


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-6 as text; researchers write it as a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def _override(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise ValueError(f"override {override!r}: expected key=value")
    value = parse_value(text, f"override {override!r}")
    names = [f.name for f in dataclasses.fields(Recipe)]
    parts = key.split(".")
    if len(parts) == 1 and key not in names:
        parts = ["train", key]
    target = content
    for part in parts[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise ValueError(f"override {override!r}: {part!r} is not a section of the recipe")
    target[parts[-1]] = value


def _recipe(content: dict[str, Any], where: str) -> Recipe:
    for required in ("preset", "model"):
        if not content.get(required):
            raise ValueError(f"{where}: the key {required!r} is missing")
    values = dict(content)
    if "data" in values:
        values["data"] = _build(DataSettings, values["data"], f"{where}: data.")
    for name, kind in (("lora", LoraSettings), ("evaluate", EvaluateSettings)):
        if name in values:
            values[name] = _build(kind, values[name], f"{where}: {name}.")
    for name in ("train", "grid"):
        if not isinstance(values.get(name) or {}, dict):
            raise ValueError(f"{where}: {name}: expected a section with keys, found {values[name]!r}")
    for key, choices in (values.get("grid") or {}).items():
        if not isinstance(choices, list) or not choices:
            raise ValueError(f"{where}: grid.{key}: expected a list of values, found {choices!r}")
    recipe = _build(Recipe, values, f"{where}: ")
    preset_settings(recipe.preset)
    return recipe


def _build(kind: Any, values: Any, prefix: str) -> Any:
    """Return a record from the keys and values of its section; ``prefix`` stands in front of their names."""
    where = prefix.rstrip(".: ")
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected a section with keys, found {values!r}")
    hints = typing.get_type_hints(kind)
    for name in values:
        if name not in hints:
            raise ValueError(f"{where}: {unknown_name('key', name, hints)}")
    given = {name: _value(prefix + name, value, hints[name]) for name, value in values.items() if value is not None}
    for name, value in given.items():
        if (kind, name) in _RANGES:
            check_range(prefix + name, value, _RANGES[kind, name])
    return kind(**given)


def _value(where: str, value: Any, hint: Any) -> Any:
    """Return a value of its type; sections are records by now."""
    return value if dataclasses.is_dataclass(value) else typed_value(where, value, hint)
