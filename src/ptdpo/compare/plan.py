"""What a comparison runs: recipes, seeds, and the settings among which each recipe chooses."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ptdpo.config import Recipe, read_recipe

Setting = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Arm:
    """One recipe of a comparison; its name is that of its file."""

    name: str
    path: Path
    candidates: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class ComparePlan:
    """A comparison; the first arm is the one that others are compared with.

    Attributes:
        arms: what is compared.
        seeds: on which every arm is trained with its chosen setting and tested, once.
        tuning_seeds: on which candidates are trained and validated; empty if nothing is to be chosen.
        overrides: ``key=value`` for every run, such as ``max_steps=40``.
    """

    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...] = ()
    overrides: tuple[str, ...] = field(default=())

    def recipe(self, arm: Arm, seed: int, setting: Setting, folder: Path) -> Recipe:
        """Return the recipe of one run, which writes to ``folder``."""
        values = [f"{key}={value}" for key, value in setting]
        return read_recipe(arm.path, [*self.overrides, *values, f"train.seed={seed}", f"train.output_dir={folder}"])


def make_compare_plan(
    recipes: Sequence[Path],
    seeds: Sequence[int],
    tuning_seeds: Sequence[int] = (),
    grid: Mapping[str, Sequence[Any]] | None = None,
    overrides: Sequence[str] = (),
) -> ComparePlan:
    """Read the recipes and lay out their candidates.

    Args:
        recipes: recipe files; the first is the baseline. ``{seed}`` in them stands for the seed of a run.
        seeds: final seeds.
        tuning_seeds: for choosing.
        grid: settings to choose among, for every recipe; a recipe's own ``grid`` section adds to it or takes its place,
            key by key.
        overrides: for every run.

    Raises:
        ValueError: if fewer than two seeds are given, a seed is given twice or tuned and tested on, two recipes have
            the same name, a recipe has no ``evaluate`` section, or there is something to choose but no tuning seed.
    """
    if len(set(seeds)) < 2 or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds {list(seeds)}: a comparison needs at least two different seeds")
    shared = sorted(set(seeds) & set(tuning_seeds))
    if shared:
        raise ValueError(f"seeds {shared} are both tuned and tested on: choose other tuning seeds")
    arms = tuple(_arm(Path(path), seeds[0], dict(grid or {}), overrides) for path in recipes)
    names = [arm.name for arm in arms]
    if len(set(names)) != len(names) or not names:
        raise ValueError(f"recipes {', '.join(names)}: a comparison needs recipe files of different names")
    choosing = [arm.name for arm in arms if len(arm.candidates) > 1]
    if choosing and not tuning_seeds:
        raise ValueError(f"{', '.join(choosing)}: settings are to be chosen, but there is no tuning seed")
    return ComparePlan(arms, tuple(seeds), tuple(tuning_seeds), tuple(overrides))


def _arm(path: Path, seed: int, grid: dict[str, Sequence[Any]], overrides: Sequence[str]) -> Arm:
    recipe = read_recipe(path, [*overrides, f"train.seed={seed}"])
    if not recipe.evaluate.test:
        raise ValueError(f"{path}: the section 'evaluate' names no test file, on which recipes are compared")
    choices = {**grid, **recipe.grid}
    chooses = any(len(values) > 1 for values in choices.values())
    if chooses and not recipe.evaluate.validation:
        raise ValueError(f"{path}: the section 'evaluate' names no validation file, on which settings are chosen")
    if chooses and Path(recipe.evaluate.validation) == Path(recipe.evaluate.test):
        raise ValueError(
            f"{path}: evaluate.validation and evaluate.test are both {recipe.evaluate.test}: settings would be "
            "chosen on what recipes are compared on"
        )
    candidates = itertools.product(*[[(key, value) for value in values] for key, values in choices.items()])
    return Arm(path.stem, path, tuple(candidates))


def setting_name(setting: Setting) -> str:
    """Return a setting as a folder name; ``as-is`` when there is nothing to choose."""
    return "-".join(f"{key.rpartition('.')[2]}{value:.15g}" if _is_number(value) else f"{key}{value}"
                    for key, value in setting) or "as-is"  # fmt: skip


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
