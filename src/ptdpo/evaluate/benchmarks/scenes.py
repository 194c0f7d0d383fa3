"""The test scenes of the demo of seed 0: only a model trained in that world can know their hidden rules."""

from pathlib import Path

from ptdpo.data.mosaic import NAMES, hidden_rules, make_scenes
from ptdpo.evaluate.benchmark import Benchmark, Local
from ptdpo.records import Problem

ROWS = 400


def _load(folder: Path) -> list[Problem]:
    rules = hidden_rules(0)
    names = [NAMES[number % len(NAMES)] for number in range(ROWS)]
    scenes = make_scenes(folder, "test", [(name, rules[name]) for name in names], seed=0)
    return [scene.problem for scene in scenes]


BENCHMARK = Benchmark(
    "scenes", "Scenes", "other", Local("generated scenes, test, seed 0", _load), rows=ROWS, instruction=""
)
