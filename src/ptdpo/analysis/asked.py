"""What an analysis of a recipe is asked for: the recipe, how much, and where it is kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from ptdpo.analysis.sampling import Draws, Sampler
from ptdpo.config import Recipe
from ptdpo.data.contexts import Row
from ptdpo.data.dataset import rl_dataset
from ptdpo.data.load import LoadedData, instruction_of, load_data
from ptdpo.models import load_model, load_processor
from ptdpo.runlog import FINISHED, METRICS_FILE, STARTED
from ptdpo.train.metrics import read_metrics
from ptdpo.train.plan import make_plan, resolved_settings
from ptdpo.train.provenance import check_same, provenance_of
from ptdpo.train.run import check_processes, output_folder, train_recipe
from ptdpo.train.settings import PTDConfig

# What a small training of an analysis leaves alone, whatever the recipe does.
_QUIET = {"report_to": "none", "push_to_hub": False}
ANOTHER_FOLDER = "choose another --out"


@dataclass(frozen=True, slots=True)
class OfRecipe:
    """A recipe to analyse.

    Attributes:
        recipe: its model, data and settings.
        folder: where what is drawn or trained is kept; the same call goes on there.
        draws: how much is sampled.
        steps: of each small training; ``None``: as many as the analysis needs.
        say: is told of each part.
    """

    recipe: Recipe
    folder: Path
    draws: Draws = field(default_factory=Draws)
    steps: int | None = None
    say: Callable[[str], None] = print

    @property
    def settings(self) -> PTDConfig:
        """Return the settings of the recipe.

        Raises:
            ValueError: if it does not tutor.
        """
        settings = resolved_settings(self.recipe)
        if not isinstance(settings, PTDConfig) or not settings.tutors:
            raise ValueError(
                f"preset={self.recipe.preset} tutors nothing: give a recipe with a tutoring term, such as ptd-grpo"
            )
        return settings

    def data(self) -> LoadedData:
        """Return the data of the recipe."""
        return load_data(self.recipe.data, image_folder=self.folder / "images")

    def rows(self) -> Sequence[Row]:
        """Return the training data of the recipe as the trainer reads it."""
        data, instruction = self.data(), instruction_of(self.recipe.data)
        rows = rl_dataset(data.problems, data.hints, instruction=instruction, solutions=data.solutions)
        # A data set is read row by row, as a sequence is.
        return cast(Sequence[Row], rows)

    def sampler(self) -> Sampler:
        """Return what draws from the start model and scores with it."""
        model, processor = load_model(self.recipe.model), load_processor(self.recipe.model)
        sampled_from = {"model": self.recipe.model, "data": str(self.recipe.data)}
        return Sampler(model, processor, self.rows(), self.draws, self.folder, sampled_from, self.say)

    def arm(self, name: str, changes: Mapping[str, object], steps: int) -> Recipe:
        """Return the recipe of one small training in a folder of its own, checked as far as that goes without weights.

        Args:
            name: of its folder.
            changes: settings that differ from the recipe's.
            steps: how many, if none are asked for.

        Raises:
            ValueError: on what a dry run of it would refuse, or if the recipe is laid out for several processes.
        """
        if self.recipe.processes > 1:
            raise ValueError(
                f"processes={self.recipe.processes}: an analysis trains in one process; set processes=1 and adjust the "
                "batch sizes"
            )
        check_processes(self.recipe)
        train = {**self.recipe.train, **_QUIET, **changes, "max_steps": self.steps or steps}
        arm = replace(self.recipe, train={**train, "output_dir": str(self.folder / name)})
        make_plan(arm)
        return arm

    def trained(self, arm: Recipe, train: Callable[[Recipe], object] = train_recipe) -> list[dict[str, float]]:
        """Train an arm unless that was finished before, and return its metrics, a row per step.

        Args:
            arm: the recipe of ``arm``.
            train: trains it, and writes ``finished.json`` at the end.

        Raises:
            ValueError: if its folder holds a run with other settings.
            StoppedBySignal: if a signal ended it; the same call goes on.
        """
        home = output_folder(resolved_settings(arm))
        for name in (STARTED, FINISHED):
            check_same(home / name, provenance_of(arm), ANOTHER_FOLDER)
        if not (home / FINISHED).exists():
            self.say(f"{home}: {arm.train['max_steps']} steps")
            train(arm)
        return read_metrics(home / METRICS_FILE)
