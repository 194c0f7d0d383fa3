"""The typed content of a recipe, and its reader. No torch: reading a recipe is instant."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from ptdpo.folders import regular_file
from ptdpo.presets import preset_settings
from ptdpo.records import Grading
from ptdpo.strict_yaml import StrictLoader
from ptdpo.values import STRICT_KEYS, Amount, Count, Nucleus, Temperature, Text, read_as

Source = Literal["jsonl", "parquet", "hub", "easy-vqa"]
BadRows = Literal["refuse", "drop"]
WithoutImage = Literal["refuse", "drop"]


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Where problems come from and what is done with bad ones.

    Attributes:
        source: ``jsonl`` (problems file), ``parquet`` (file or folder), ``hub`` (data set id), ``easy-vqa`` (the PyPI
            package); ``None``: as the path looks.
        path: file, folder or hub id; not used by easy-vqa.
        columns: field of a problem -> the key or column that holds it, where it has another name.
        allow_unknown: pass over keys and columns that are none of ours.
        split: split of a hub data set or of easy-vqa.
        hints: hints file, empty for none.
        solutions: solutions file, for methods that show the teacher a worked solution; empty for none.
        limit: use only so many rows, drawn at random with ``seed``.
        seed: of that draw.
        instruction: appended to every question; ``None`` for the standard thinking instruction.
        ignore_question: use hints and solutions that were made for another question, image or answer under the same id.
        bad_rows: ``refuse`` the data if any row is bad, or ``drop`` bad rows; both list them by id.
        without_image: what several processes do where some problems have an image and others none: ``refuse`` the data,
            or ``drop`` those without, with a count; one process trains on both.
        max_prompt_tokens: longer prompts, images and whatever the teacher reads included (a hint always; answer or
            solution if the preset shows it), are bad rows.
        grading: how rollouts and a comparison's answers are graded: ``sound``, or ``mathruler`` for parity with
            published runs; see docs/grading.md.
    """

    __pydantic_config__ = STRICT_KEYS

    source: Source | None = None
    path: Text = ""
    split: str = "train"
    hints: Text = ""
    solutions: Text = ""
    limit: Count | None = None
    seed: Amount = 0
    instruction: str | None = None
    bad_rows: BadRows = "refuse"
    without_image: WithoutImage = "refuse"
    max_prompt_tokens: Count = 8192
    grading: Grading = "sound"
    columns: Mapping[str, str] = field(default_factory=dict)
    allow_unknown: bool = False
    ignore_question: bool = False


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """A LoRA adapter in place of full training; ``rank`` 0 means full training."""

    __pydantic_config__ = STRICT_KEYS

    rank: Amount = 0
    alpha: Count = 64
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

    __pydantic_config__ = STRICT_KEYS

    validation: Text = ""
    test: Text = ""
    max_new_tokens: Count = 4096
    temperature: Temperature = 1.0
    top_p: Nucleus = 1.0
    samples: Count = 1
    batch_size: Count = 64


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

    __pydantic_config__ = STRICT_KEYS

    preset: str
    model: Text
    data: DataSettings = field(default_factory=DataSettings)
    train: Mapping[str, Any] = field(default_factory=dict)
    lora: LoraSettings = field(default_factory=LoraSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    processes: Count = 1


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a YAML recipe and apply ``key=value`` overrides such as ``train.learning_rate=2e-6``.

    A key without a dot that is not a field of the recipe is taken as a training setting.

    Raises:
        ValueError: if the file is missing or not YAML, a key is unknown, or a value has the wrong type; names
            the file and the key.
    """
    content = read_yaml(Path(path), "recipe")
    for override in overrides:
        _override(content, override)
    return _recipe(_with_seed(content), str(path))


def read_yaml(path: Path, kind: str) -> dict[str, Any]:
    """Read a YAML file that maps keys to values, numbers such as 1e-6 as numbers.

    Args:
        path: of the file.
        kind: what it should be, for messages.

    Raises:
        ValueError: if it is missing, no text, not YAML or no mapping; names the file.
    """
    regular_file(path, kind)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a {kind} is a mapping of keys to values")
    return content


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


class _Loader(StrictLoader):
    """YAML 1.1 reads 1e-6 as text; researchers write it as a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def given_once(overrides: Sequence[str]) -> Sequence[str]:
    """Return a user's ``key=value`` overrides, each key once.

    Raises:
        ValueError: if a key is given twice, of which the first would count for nothing.
    """
    seen: dict[tuple[str, ...], str] = {}
    for override in overrides:
        place = tuple(_place(override.partition("=")[0]))
        if place in seen:
            raise ValueError(f"{seen[place]!r} and {override!r} give one setting twice: leave one out")
        seen[place] = override
    return overrides


def _place(key: str) -> list[str]:
    """Return the keys under which a setting stands; without a dot that is a field of the recipe, or of training."""
    own = "." in key or key in {field.name for field in dataclasses.fields(Recipe)}
    return key.split(".") if own else ["train", key]


def _override(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise ValueError(f"override {override!r}: expected key=value")
    value = parse_value(text, f"override {override!r}")
    parts = _place(key)
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
    recipe: Recipe = read_as(Recipe, _without_nulls(content), f"{where}: ")
    for key, choices in recipe.grid.items():
        if not isinstance(choices, list) or not choices:
            raise ValueError(f"{where}: grid.{key}: expected a list of values, found {choices!r}")
    preset_settings(recipe.preset)
    return recipe


def _without_nulls(content: dict[str, Any]) -> dict[str, Any]:
    """Leave out keys without a value, which stand for defaults; of a training setting null is a value."""
    given = {key: value for key, value in content.items() if value is not None}
    for name in ("data", "lora", "evaluate"):
        if isinstance(given.get(name), dict):
            given[name] = {key: value for key, value in given[name].items() if value is not None}
    return given
