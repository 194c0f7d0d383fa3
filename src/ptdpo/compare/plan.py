"""What a comparison runs: recipes, seeds, and the settings among which each recipe chooses."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ptdpo.config import Recipe, read_recipe
from ptdpo.data.load import instruction_of

# Fewer seeds cannot tell recipes apart: t is 12.7 with two of them, 2.8 with five.
FEWEST_SEEDS = 5

Setting = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class ComparedRecipe:
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

    arms: tuple[ComparedRecipe, ...]
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...] = ()
    overrides: tuple[str, ...] = field(default=())

    @property
    def warnings(self) -> list[str]:
        """Return what should be known before hours are spent."""
        if len(self.seeds) >= FEWEST_SEEDS:
            return []
        return [
            f"{len(self.seeds)} seeds say little: an interval over so few is very wide, or narrow by chance; give "
            f"--seeds at least {FEWEST_SEEDS}."
        ]

    def recipe(self, arm: ComparedRecipe, seed: int, setting: Setting, folder: Path) -> Recipe:
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
            the same name, a recipe has no ``evaluate`` section, there is something to choose but no tuning seed, an
            override or a grid sets what the comparison sets for every run, or runs of one seed would start from
            other models or be tested otherwise.
    """
    _check_overrides(overrides)
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
    plan = ComparePlan(arms, tuple(seeds), tuple(tuning_seeds), tuple(overrides))
    for seed in (*tuning_seeds, *seeds):
        _check_paired(plan, seed)
    return plan


# What a comparison sets for every run, and how to ask for it.
_OURS = {"seed": "--seeds and --tuning-seeds", "output_dir": "--out"}


def _check_overrides(overrides: Sequence[str]) -> None:
    for override in overrides:
        name = override.partition("=")[0].removeprefix("train.")
        if name in _OURS:
            raise ValueError(f"--set {override}: every run of a comparison has its own: use {_OURS[name]}")


def _check_paired(plan: ComparePlan, seed: int) -> None:
    """Differences are paired by seed and the start row is one for all: only training may differ."""
    first: tuple[str, dict[str, Any]] | None = None
    for arm in plan.arms:
        for setting in arm.candidates:
            shared = _shared(plan.recipe(arm, seed, setting, Path()))
            first = first or (arm.name, shared)
            for key, value in shared.items():
                if value != first[1][key]:
                    raise ValueError(
                        f"{arm.path}: {key}={value!r}, but {first[0]} has {key}={first[1][key]!r}: what is compared "
                        "must start from the same model and answer the same questions in the same way; make them "
                        "equal, or compare these recipes elsewhere"
                    )


def _shared(recipe: Recipe) -> dict[str, Any]:
    tested = {f"evaluate.{key}": value for key, value in asdict(recipe.evaluate).items()}
    data = {"data.instruction": instruction_of(recipe.data), "data.grading": recipe.data.grading}
    return {"model": recipe.model, **data, **tested}


def _arm(path: Path, seed: int, grid: dict[str, Sequence[Any]], overrides: Sequence[str]) -> ComparedRecipe:
    recipe = read_recipe(path, [*overrides, f"train.seed={seed}"])
    if not recipe.evaluate.test:
        raise ValueError(f"{path}: the section 'evaluate' names no test file, on which recipes are compared")
    choices = {**grid, **recipe.grid}
    for key in choices:
        if key.removeprefix("train.") in _OURS:
            asked = _OURS[key.removeprefix("train.")]
            raise ValueError(f"{path}: grid.{key}: every run of a comparison has its own: use {asked}")
    chooses = any(len(values) > 1 for values in choices.values())
    if chooses and not recipe.evaluate.validation:
        raise ValueError(f"{path}: the section 'evaluate' names no validation file, on which settings are chosen")
    if chooses and Path(recipe.evaluate.validation) == Path(recipe.evaluate.test):
        raise ValueError(
            f"{path}: evaluate.validation and evaluate.test are both {recipe.evaluate.test}: settings would be "
            "chosen on what recipes are compared on"
        )
    candidates = itertools.product(*[[(key, value) for value in values] for key, values in choices.items()])
    return ComparedRecipe(path.stem, path, tuple(candidates))


def setting_name(setting: Setting) -> str:
    """Return a setting as a folder name; ``as-is`` when there is nothing to choose."""
    return "-".join(f"{key.rpartition('.')[2]}{value:.15g}" if _is_number(value) else f"{key}{value}"
                    for key, value in setting) or "as-is"  # fmt: skip


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
