"""The jobs of a study: each is done once, by whichever process is free, and leaves a file that says what it found."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ptdpo.compare.plan import ComparedRecipe, Setting, setting_name
from ptdpo.compare.run import (
    ANOTHER_FOLDER,
    ANSWERS,
    TEST,
    VALIDATION,
    answered_scores,
    best_setting,
    check_made_by,
    questions_of,
    run_folder,
    train_once,
)
from ptdpo.config import Recipe
from ptdpo.evaluate.scoring import Scores
from ptdpo.folders import claim, lock, write_json
from ptdpo.study.gains import GAINS_FILE, measure_gains
from ptdpo.study.plan import Study
from ptdpo.study.world import make_reader, make_world, world_made

SCORES = "scores.json"
# How every run of a folder answers, and what start models were asked before.
ASKED = "asked.json"
START_ANSWERS = "start"


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do.

    Attributes:
        name: unique; also that of its lock.
        ready: whether what it needs is there.
        done: whether it is done.
        run: does it.
    """

    name: str
    ready: Callable[[], bool]
    done: Callable[[], bool]
    run: Callable[[], object]


def check_finished(study: Study) -> None:
    """Refuse a study whose folder holds anything made with other settings: it would count for what is asked now.

    Raises:
        ValueError: naming the run and each setting that differs.
    """
    settings = study.settings
    how = {"evaluate": settings.shared.get("evaluate", {}), "gains": asdict(settings.gains)}
    claim(study.folder / ASKED, how, ANOTHER_FOLDER)
    for name in settings.arms:
        for setting in _arm(study, name).candidates:
            for world in (*settings.worlds.validation, *settings.worlds.test):
                home = _home(study, name, setting, world)
                if home.exists():
                    check_made_by(home, study.plans[name].recipe(_arm(study, name), world, setting, home))


def jobs_of(study: Study) -> list[Job]:
    """Return the jobs in their order: the model that reads, then by round all candidates, and world by world the tests.

    Worlds are made when they are first needed.
    """
    worlds, jobs = study.settings.worlds, [_reader(study)]
    jobs += [_world(study, world) for world in worlds.validation]
    jobs += [_gains(study, world) for world in worlds.validation]
    arms = study.in_order()
    rounds = sorted({study.settings.arms[name].round for name in arms})
    for number in rounds:
        of_round = [name for name in arms if study.settings.arms[name].round == number]
        jobs += [
            _candidate(study, name, setting, world)
            for world in worlds.validation
            for name in of_round
            for setting in _arm(study, name).candidates
        ]
        for world in worlds.test:
            jobs += [_world(study, world), _start(study, world)] if number == rounds[0] else []
            jobs += [_test(study, name, world) for name in of_round]
    return jobs


def tuned(study: Study, name: str) -> dict[str, dict[int, float]]:
    """Return the validation accuracies of an arm found so far: candidate -> world -> accuracy."""
    found: dict[str, dict[int, float]] = {}
    for setting in _arm(study, name).candidates:
        for world in study.settings.worlds.validation:
            scores = read_scores(_home(study, name, setting, world))
            if scores is not None:
                found.setdefault(setting_name(setting), {})[world] = scores.accuracy
    return found


def chosen(study: Study, name: str) -> Setting | None:
    """Return the candidate with the best mean validation accuracy; ``None`` until all are tried in all worlds."""
    arm, found = _arm(study, name), tuned(study, name)
    if len(arm.candidates) == 1:
        return arm.candidates[0]
    wanted = len(study.settings.worlds.validation)
    if len(found) < len(arm.candidates) or any(len(worlds) < wanted for worlds in found.values()):
        return None
    return best_setting(arm, {key: list(worlds.values()) for key, worlds in found.items()})


def final_folder(study: Study, name: str, world: int) -> Path | None:
    """Return the folder of an arm's final run in a world; ``None`` before its candidate is chosen."""
    setting = chosen(study, name)
    return None if setting is None else _home(study, name, setting, world)


def start_folder(study: Study, world: int) -> Path:
    """Return the folder with the answers of a world's start model."""
    return study.folder / f"seed-{world}" / START_ANSWERS


def gains_folder(study: Study, world: int) -> Path:
    """Return the folder with what a world's start model gains from each context."""
    return study.folder / "gains" / str(world)


def read_scores(home: Path) -> Scores | None:
    """Return what a run's answers said; ``None`` if it has not answered all."""
    path = home / SCORES
    return Scores(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


@contextmanager
def held_alone(path: Path) -> Iterator[bool]:
    """Hold a lock while the block lasts; yields ``False`` if another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        yield lock(file.fileno())


def _arm(study: Study, name: str) -> ComparedRecipe:
    return study.plans[name].arms[0]


def _home(study: Study, name: str, setting: Setting, world: int) -> Path:
    return run_folder(study.folder, world, _arm(study, name), setting)


def _world_folder(study: Study, world: int) -> Path:
    return Path(study.settings.worlds.folder) / str(world)


def _made(study: Study, world: int) -> bool:
    return world_made(_world_folder(study, world))


def _reader(study: Study) -> Job:
    folder, settings = Path(study.settings.worlds.folder), study.settings.worlds.settings
    reader = folder / "reader"
    return Job("reader", lambda: True, reader.exists, lambda: make_reader(folder, settings))


def _world(study: Study, world: int) -> Job:
    reader, settings = Path(study.settings.worlds.folder) / "reader", study.settings.worlds.settings
    folder = _world_folder(study, world)
    return Job(
        f"world-{world}",
        reader.exists,
        lambda: _made(study, world),
        lambda: make_world(folder, world, reader, settings),
    )


def _gains(study: Study, world: int) -> Job:
    folder, asked = gains_folder(study, world), study.settings.gains
    return Job(
        f"gains-{world}",
        lambda: _made(study, world),
        (folder / GAINS_FILE).exists,
        lambda: measure_gains(folder, _world_folder(study, world), world, asked),
    )


def _start(study: Study, world: int) -> Job:
    home = start_folder(study, world)
    name = study.settings.baseline

    def answer() -> None:
        recipe = study.plans[name].recipe(_arm(study, name), world, (), home)
        _score(study, home, recipe, recipe.model, TEST)

    return Job(f"start-{world}", lambda: _made(study, world), (home / SCORES).exists, answer)


def _candidate(study: Study, name: str, setting: Setting, world: int) -> Job:
    """Train a candidate on a validation world and answer its validation questions; nothing to do without a choice."""
    home, alone = _home(study, name, setting, world), len(_arm(study, name).candidates) == 1
    return Job(
        f"{name}-{setting_name(setting)}-{world}",
        lambda: _made(study, world),
        lambda: alone or (home / SCORES).exists(),
        lambda: _train_and_score(study, name, setting, world, VALIDATION),
    )


def _test(study: Study, name: str, world: int) -> Job:
    """Train an arm with its choice on a test world and answer the test questions, once."""

    def done() -> bool:
        home = final_folder(study, name, world)
        return home is not None and (home / SCORES).exists()

    def run() -> None:
        setting = chosen(study, name)
        assert setting is not None
        _train_and_score(study, name, setting, world, TEST)

    def ready() -> bool:
        return _made(study, world) and chosen(study, name) is not None

    return Job(f"{name}-{world}", ready, done, run)


def _train_and_score(study: Study, name: str, setting: Setting, world: int, split: str) -> None:
    home = _home(study, name, setting, world)
    recipe = study.plans[name].recipe(_arm(study, name), world, setting, home)
    train_once(home, recipe)
    _score(study, home, recipe, str(home), split)


def _score(study: Study, home: Path, recipe: Recipe, model: str, split: str) -> None:
    scores = answered_scores(home / ANSWERS, model, recipe, questions_of(study.folder, recipe, split))
    write_json(home / SCORES, asdict(scores))
