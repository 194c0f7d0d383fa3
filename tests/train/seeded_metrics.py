"""The first three steps of every recipe of ``recipes/demo`` on a tiny model: what ``seeded_metrics.json`` records.

A change that only moves code leaves these numbers as they are to the last digit. One that means to change them writes
them anew, and the difference of the file shows what it did:

    python -m tests.train.seeded_metrics --write
"""

import argparse
import json
import math
import os
import tempfile
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ptdpo.config import read_recipe
from ptdpo.data.dataset import rl_dataset
from ptdpo.data.files import write_problems, write_solutions
from ptdpo.data.mosaic import NAMES, Scene, hidden_rules, make_scenes, with_views
from ptdpo.models import TinyVLMSettings, load_model, load_processor, make_tiny_vlm
from ptdpo.records import Problem
from ptdpo.train import PTDConfig, PTDTrainer
from ptdpo.train.run import train_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "demo"
RECORDED = Path(__file__).with_name("seeded_metrics.json")
SMALL = TinyVLMSettings(hidden=32, layers=2, heads=2, key_value_heads=1, vision_hidden=32, vision_heads=2)

# As the recipes have it, but for two groups of eight rollouts and short responses.
SHORT = {"per_device_train_batch_size": 16, "max_completion_length": 12, "max_steps": 3, "disable_tqdm": True}
# The layouts that the recipes leave out, over the same data: micro-batches, several steps per generation, T = 0.7.
WINDOWS = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 2,
    "steps_per_generation": 4,
    "temperature": 0.7,
}
LAYOUTS: dict[str, tuple[str, dict]] = {
    "ptd_grpo, windows": ("ptd_grpo", WINDOWS),
    "ptd_grpo, windows in plain rows": ("ptd_grpo", {**WINDOWS, "share_prefix": False}),
    "hdpo, windows": ("hdpo", WINDOWS),
    "sdpo, windows": ("sdpo", WINDOWS),
    "papo, windows": ("papo", WINDOWS),
    "ptd_gspo, several iterations": ("ptd_gspo", {"num_iterations": 2}),
    "ptd_grpo, token budget": ("ptd_grpo", {"micro_batch_tokens": 300}),
}


@dataclass(frozen=True)
class World:
    """What the recipes read."""

    folder: Path
    scenes: list[Scene]

    @property
    def start(self) -> str:
        return str(self.folder / "start")

    @property
    def expert(self) -> str:
        return str(self.folder / "expert")


def make_world(folder: Path) -> World:
    """Write a tiny model, another of the same vocabulary, problems and solutions."""
    rules = hidden_rules(0)
    scenes = make_scenes(folder / "images", "train", [(name, rules[name]) for name in NAMES * 3], seed=0)
    make_tiny_vlm(folder / "start", [f"{s.problem.problem} {s.hint.look} {s.solution.response}" for s in scenes], SMALL)
    world = World(folder, scenes)
    processor, seeds = load_processor(world.start), torch.Generator().manual_seed(0)
    for path, noise in ((world.start, 0.0), (world.expert, 0.05)):
        model = load_model(world.start)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if noise:
                    parameter.add_(noise * torch.randn(parameter.shape, generator=seeds))
                elif parameter.ndim == 2:
                    # Fresh weights hardly react to their context, and never end a response.
                    parameter.mul_(8.0 if "embed_tokens" in name else 3.0)
                    if "embed_tokens" in name:
                        parameter[processor.tokenizer.eos_token_id].mul_(3.0)
        model.save_pretrained(path)
        processor.save_pretrained(path)
    write_problems(folder / "problems.jsonl", [scene.problem for scene in scenes])
    write_solutions(folder / "solutions.jsonl", [scene.solution for scene in scenes])
    return world


def accuracy_reward(completions, completion_ids, answer, **_) -> list[float]:
    """Call some responses right, by their tokens: half of them for some problems, hardly any for others."""
    rarity = [(2, 12, 3, 7)[int(text) % 4] for text in answer]
    return [float(sum(ids) % every == 0) for ids, every in zip(completion_ids, rarity, strict=True)]


def recipes() -> dict[str, tuple[str, dict]]:
    """Return every case: name -> recipe below ``recipes/demo``, and what differs from it beside ``SHORT``."""
    found = {str(path.relative_to(RECIPES).with_suffix("")): {} for path in sorted(RECIPES.rglob("*.yaml"))}
    return {**{name: (name, changes) for name, changes in found.items()}, **LAYOUTS}


def run_case(name: str, world: World, folder: Path) -> list[dict[str, float]]:
    """Train the first steps of a case and return what each step logged, times left out."""
    recipe, changes = recipes()[name]
    path = RECIPES / f"{recipe}.yaml"
    if recipe == "sft":
        _run_sft(path, world, folder)
    else:
        _run_rl(path, world, folder, changes)
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [_without_times(json.loads(line)) for line in lines]


def _run_rl(path: Path, world: World, folder: Path, changes: dict) -> None:
    recipe = read_recipe(path)
    settings = {**recipe.train, **SHORT, **changes, "output_dir": str(folder)}
    if "tutoring_teacher" in recipe.train:
        settings["tutoring_teacher"] = world.expert
    args = PTDConfig.from_preset(recipe.preset, **settings)
    plain = "plain" in recipe.data.hints
    rows = rl_dataset(
        [_problem(scene, world, recipe.data.path) for scene in world.scenes],
        {s.problem.id: replace(s.hint, look="the picture.") if plain else s.hint for s in world.scenes},
        instruction=recipe.data.instruction or "",
        solutions={scene.problem.id: scene.solution.response for scene in world.scenes},
    )
    processor = load_processor(world.start)
    trainer = PTDTrainer(world.start, accuracy_reward, args, train_dataset=rows, processing_class=processor)
    trainer.train()


def _problem(scene: Scene, world: World, path: str) -> Problem:
    return with_views(scene, world.folder / "images") if path.endswith("views.jsonl") else scene.problem


def _run_sft(path: Path, world: World, folder: Path) -> None:
    where = [f"model={world.start}", f"data.path={world.folder}/problems.jsonl", f"output_dir={folder}"]
    size = ["per_device_train_batch_size=4", "max_steps=3", "disable_tqdm=true"]
    train_recipe(read_recipe(path, [*where, *size, f"data.solutions={world.folder}/solutions.jsonl"]))


def _without_times(line: dict[str, float]) -> dict[str, float]:
    timed = ("seconds/", "step_time", "elapsed")
    return {key: value for key, value in line.items() if not any(part in key for part in timed)}


def this_machine() -> dict[str, str]:
    """Return what decides the last digits."""
    return {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability()}


def differences(name: str, recorded: list[dict], found: list[dict], *, exact: bool) -> list[str]:
    """Return the values of a case that are not those recorded: all that differ at all, or by more than 1e-4 of it."""
    if [sorted(line) for line in recorded] != [sorted(line) for line in found]:
        return [f"{name}: other lines or names: {[sorted(line) for line in found]}"]
    return [
        f"{name}, step {step}: {key} {found[step - 1][key]!r}, recorded {value!r}"
        for step, line in enumerate(recorded, start=1)
        for key, value in line.items()
        if not _same(value, found[step - 1][key], exact=exact)
    ]


def _same(recorded: float, found: float, *, exact: bool) -> bool:
    if exact or not isinstance(recorded, float):
        return recorded == found
    return math.isclose(recorded, found, rel_tol=1e-4, abs_tol=1e-7)


def _as_text(steps: dict[str, list[dict]]) -> str:
    """Return the file's text: a line per step, so that a difference can be read."""
    cases = [
        f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(line) for line in lines) + "\n]"
        for name, lines in steps.items()
    ]
    return f'{{"machine": {json.dumps(this_machine())},\n"steps": {{\n' + ",\n".join(cases) + "\n}}\n"


def main() -> None:
    """Print what differs from the recorded file, or write it anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the file instead of comparing with it")
    write = parser.parse_args().write
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        world = make_world(Path(scratch) / "world")
        steps = {}
        for number, name in enumerate(recipes()):
            torch.manual_seed(0)
            steps[name] = run_case(name, world, Path(scratch) / str(number))
    if write:
        RECORDED.write_text(_as_text(steps), encoding="utf-8")
        return
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    exact = recorded["machine"] == this_machine()
    found = [line for name in steps for line in differences(name, recorded["steps"][name], steps[name], exact=exact)]
    print("\n".join(found) or f"{len(steps)} cases as recorded")


if __name__ == "__main__":
    main()
