"""What a study runs, read from one file: its worlds, what all arms share, and each arm with its candidates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ptdpo.compare.plan import ComparedRecipe, ComparePlan, Setting
from ptdpo.config import read_recipe, read_yaml
from ptdpo.folders import write_text
from ptdpo.study.gains import Asked
from ptdpo.study.world import WorldSettings
from ptdpo.train.plan import resolved_settings
from ptdpo.values import STRICT_KEYS, Count, Text, read_as


@dataclass(frozen=True, slots=True)
class Worlds:
    """Where the worlds lie, which are there, and of what they are made.

    Attributes:
        folder: of the worlds; each is made there when it is needed.
        test: worlds on which arms are compared; each arm answers their test questions once.
        validation: other worlds, on which each arm's candidate is chosen.
        settings: of all worlds.
    """

    __pydantic_config__ = STRICT_KEYS

    folder: Text
    test: tuple[int, ...]
    validation: tuple[int, ...]
    settings: WorldSettings = field(default_factory=WorldSettings)


@dataclass(frozen=True, slots=True)
class Arm:
    """One method of a study.

    Attributes:
        preset: a name of ``PRESETS``.
        data: settings of the section ``data`` over those that all arms share.
        train: likewise of ``train``.
        without: settings of ``train`` that all arms share and this one, a method that knows them not, does without.
        candidates: settings of ``train`` among which the arm chooses, as many as every other arm has.
        round: arms of round 1 are run first, on all worlds, then those of round 2 and so on.
    """

    __pydantic_config__ = STRICT_KEYS

    preset: str
    candidates: tuple[Mapping[str, Any], ...]
    data: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    round: Count = 1


@dataclass(frozen=True, slots=True)
class StudySettings:
    """The file of a study.

    Attributes:
        worlds: see ``Worlds``.
        candidates: how many settings every arm may choose among.
        baseline: the arm with which the others are compared.
        contrasts: further pairs of arms to compare, (one, with another).
        shared: a recipe without preset, of which every arm is a change; ``{seed}`` stands for the world.
        arms: by name.
        gains: how much the start models of the validation worlds are asked before any training.
    """

    __pydantic_config__ = STRICT_KEYS

    worlds: Worlds
    candidates: Count
    baseline: str
    shared: Mapping[str, Any]
    arms: Mapping[str, Arm]
    contrasts: tuple[tuple[str, str], ...] = ()
    gains: Asked = field(default_factory=Asked)


@dataclass(frozen=True, slots=True)
class Study:
    """A study whose arms are recipes of their own, in ``recipes`` of its folder.

    Attributes:
        settings: as read.
        folder: of all results.
        plans: by arm, its candidates on its worlds, as ``ptdpo compare`` would run them.
    """

    settings: StudySettings
    folder: Path
    plans: Mapping[str, ComparePlan]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Return the comparisons: every arm with the baseline, then the contrasts."""
        baseline = self.settings.baseline
        return [*((name, baseline) for name in self.settings.arms if name != baseline), *self.settings.contrasts]

    def in_order(self) -> list[str]:
        """Return the arms, those of the first round first."""
        return sorted(self.settings.arms, key=lambda name: self.settings.arms[name].round)


def read_study(path: Path, folder: Path) -> Study:
    """Read a study and write the recipe of each arm to ``folder / "recipes"``.

    Raises:
        ValueError: if the file is none, an arm has another number of candidates or a setting that its preset does not
            know, a world is both validated and tested on, or a baseline or contrast names no arm.
    """
    settings: StudySettings = read_as(StudySettings, read_yaml(path, "study"), f"{path}: ")
    _check(settings, str(path))
    return Study(settings, folder, {name: _plan(settings, name, folder) for name in settings.arms})


def _check(settings: StudySettings, where: str) -> None:
    shared = sorted(set(settings.worlds.test) & set(settings.worlds.validation))
    if shared:
        raise ValueError(f"{where}: worlds {shared} are both validated and tested on: take others for one of them")
    for name, arm in settings.arms.items():
        if len(arm.candidates) != settings.candidates:
            raise ValueError(
                f"{where}: arm {name} has {len(arm.candidates)} candidates, but every arm chooses among "
                f"{settings.candidates}: methods are comparable if they are tuned alike"
            )
    for name in (settings.baseline, *(one for pair in settings.contrasts for one in pair)):
        if name not in settings.arms:
            raise ValueError(f"{where}: {name!r} is no arm (known: {', '.join(settings.arms)})")


def _plan(settings: StudySettings, name: str, folder: Path) -> ComparePlan:
    arm, shared = settings.arms[name], settings.shared
    sections = {"data": arm.data, "train": arm.train}
    content = {
        **shared,
        "preset": arm.preset,
        **{section: {**shared.get(section, {}), **changed} for section, changed in sections.items()},
    }
    content["train"] = {key: value for key, value in content["train"].items() if key not in arm.without}
    path = folder / "recipes" / f"{name}.yaml"
    text = yaml.safe_dump(content, sort_keys=False)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    try:
        # Settings that its preset does not know are found now, not in its round, hours later.
        resolved_settings(read_recipe(path))
    except ValueError as error:
        raise ValueError(f"arm {name}: {error}") from error
    candidates: Sequence[Setting] = [tuple(candidate.items()) for candidate in arm.candidates]
    worlds = settings.worlds
    return ComparePlan((ComparedRecipe(name, path, tuple(candidates)),), worlds.test, worlds.validation)
