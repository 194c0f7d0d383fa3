"""The generated scenes of the demo: a 3 x 3 mosaic of easy-VQA objects and scores with hidden rules.

Each score ("what is the alpha score of this picture?") stands for a rule that the question does not state: a
region of the mosaic and a number to begin with. The answer adds to that number what the cells of the region are
worth, by colour. The hint states the rule in words; it holds no cell, no total and no answer.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from PIL import Image, ImageChops

from ptdpo.data.easy_vqa import tiles_by_colour
from ptdpo.data.images import save_image
from ptdpo.records import Hint, Problem, Solution

WORTH = {"red": 3, "blue": 2, "green": 1, "yellow": 0}
COLOURS = tuple(WORTH)
NAMES = ("alpha", "beta", "gamma", "delta")
BEGINNINGS = (1, 2, 3, 4, 5, 6)
REGIONS: dict[str, tuple[int, ...]] = {
    "top row": (0, 1, 2),
    "middle row": (3, 4, 5),
    "bottom row": (6, 7, 8),
    "left column": (0, 3, 6),
    "centre column": (1, 4, 7),
    "right column": (2, 5, 8),
}
TILE = 16
_BACKGROUND_TOLERANCE = 40


@dataclass(frozen=True, slots=True)
class Rule:
    """What a score adds up: ``beginning`` plus what the cells of ``region`` are worth."""

    region: str
    beginning: int

    def score(self, cells: Sequence[str]) -> int:
        """Return the answer for a mosaic given as nine colour names, row by row."""
        return self.beginning + sum(WORTH[cells[position]] for position in REGIONS[self.region])


@dataclass(frozen=True, slots=True)
class Scene:
    """One problem with everything that is known about it."""

    problem: Problem
    name: str
    rule: Rule
    cells: tuple[str, ...]
    hint: Hint
    solution: Solution


def random_rule(rng: random.Random) -> Rule:
    """Draw one of the 36 rules."""
    return Rule(rng.choice(list(REGIONS)), rng.choice(BEGINNINGS))


def hidden_rules(seed: int) -> dict[str, Rule]:
    """Return the rule behind each name: regions and beginnings all differ."""
    rng = random.Random(f"hidden rules {seed}")
    regions, beginnings = rng.sample(list(REGIONS), len(NAMES)), rng.sample(BEGINNINGS, len(NAMES))
    rules = map(Rule, regions, beginnings)
    return dict(zip(NAMES, rules, strict=True))


def question(name: str) -> str:
    """Return the question about a score; it does not state the rule."""
    return f"what is the {name} score of this picture?"


def written_cells(cells: Sequence[str]) -> str:
    """Return a mosaic in words, for models of text: its cells by number, row by row."""
    return ", ".join(f"{number} {colour}" for number, colour in enumerate(cells, 1))


def hint(rule: Rule) -> Hint:
    """Return the answer-free hint: where to look, what to ignore, how to begin and go on."""
    return Hint(look=f"{rule.region}, ignore the rest.", reason=f"begin {rule.beginning}, add up.")


def solution_text(name: str, rule: Rule, cells: Sequence[str]) -> str:
    """Return the worked response: state the rule, list the cells of the region with a running total, box it."""
    return worked_response(name, rule.beginning, cells, rule.region, REGIONS[rule.region])


def worked_response(name: str, beginning: int, cells: Sequence[str], place: str, positions: Sequence[int]) -> str:
    """Return a response that adds up some cells, numbered from 1, in the order given.

    It starts by repeating the name: a small model then learns which rule goes with which name from the tokens next
    to it, where it otherwise often gives one name's rule to all.
    """
    total, steps = beginning, []
    for position in positions:
        worth = WORTH[cells[position]]
        total += worth
        steps.append(f"{position + 1} {cells[position]} {worth} = {total}")
    return f"<think>{name}: {place}, begin {beginning}. {', '.join(steps)}</think>\n\\boxed{{{total}}}"


@cache
def _tile(path: str) -> Image.Image:
    """Cut the object out of an easy-VQA image and scale it to one cell."""
    image = Image.open(path).convert("RGB")
    background = Image.new("RGB", image.size, image.getpixel((0, 0)))
    red, green, blue = ImageChops.difference(image, background).split()
    difference = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    visible = [255 if value > _BACKGROUND_TOLERANCE else 0 for value in range(256)]
    box = difference.point(visible).getbbox()
    left, top, right, bottom = box or (0, 0, *image.size)
    side = max(right - left, bottom - top) + 4
    x = max(0, min((left + right - side) // 2, image.width - side))
    y = max(0, min((top + bottom - side) // 2, image.height - side))
    return image.crop((x, y, x + side, y + side)).resize((TILE, TILE), Image.Resampling.BILINEAR)


def draw_mosaic(cells: Sequence[str], tiles: dict[str, list[str]], rng: random.Random) -> Image.Image:
    """Draw nine cells, row by row, each with a random object of its colour."""
    mosaic = Image.new("RGB", (3 * TILE, 3 * TILE))
    for position, colour in enumerate(cells):
        mosaic.paste(_tile(rng.choice(tiles[colour])), (position % 3 * TILE, position // 3 * TILE))
    return mosaic


def tile_pool(split: str) -> dict[str, list[str]]:
    """Return the objects of a split by colour.

    Test scenes use easy-VQA's test images. Of the training images one in ten is kept for validation scenes, so
    that no object is shared between any two splits.

    Raises:
        ValueError: on an unknown split.
    """
    if split == "test":
        return {colour: tiles_by_colour("test")[colour] for colour in COLOURS}
    if split not in ("train", "validation"):
        raise ValueError(f"mosaic scenes have the splits train, validation and test, not {split!r}")
    kept = (lambda n: n % 10 == 0) if split == "validation" else (lambda n: n % 10 != 0)
    return {colour: [path for n, path in enumerate(tiles_by_colour("train")[colour]) if kept(n)] for colour in COLOURS}


def make_scenes(
    folder: str | Path, split: str, assignments: Iterable[tuple[str, Rule]], seed: int, *, in_words: bool = False
) -> list[Scene]:
    """Draw one scene per (name, rule), write its image to ``folder`` unless it is there, and return the scenes.

    Cells and objects depend on the split, the seed and the position only, so an image that is there is the same.

    Args:
        folder: of the images.
        split: whose objects are drawn.
        assignments: a name and its rule for each scene.
        seed: of cells and objects.
        in_words: write the cells into the question instead of drawing them, for models of text.
    """
    folder = Path(folder)
    tiles = {} if in_words else tile_pool(split)
    rng = random.Random(f"scenes {split} {seed}")
    scenes = []
    for number, (name, rule) in enumerate(assignments):
        cells = tuple(rng.choices(COLOURS, k=9))
        key = f"mosaic-{split}-{seed}-{number}"
        images, asked = (), f"{written_cells(cells)}. {question(name)}"
        if not in_words:
            images, asked = (drawn(folder / f"{key}.png", draw_mosaic(cells, tiles, rng)),), question(name)
        problem = Problem(key, images, asked, str(rule.score(cells)), f"mosaic-{name}")
        solution = Solution(key, solution_text(name, rule, cells))
        scenes.append(Scene(problem, name, rule, cells, hint(rule), solution))
    return scenes


def with_views(scene: Scene, folder: str | Path) -> Problem:
    """Return a scene's problem with what a teacher may see: the cells of its rule alone, and those of another region.

    The other cells are black, so that those that are seen keep their places.

    Args:
        scene: with an image.
        folder: where the views are written, unless they are there.
    """
    others = [region for region in REGIONS if region != scene.rule.region]
    other = random.Random(scene.problem.id).choice(others)
    return seen_as(scene.problem, REGIONS[scene.rule.region], REGIONS[other], folder)


def seen_as(problem: Problem, teacher: Sequence[int], contrast: Sequence[int], folder: str | Path) -> Problem:
    """Return a mosaic's problem with two views of its picture, each of some cells alone: a teacher's and another."""
    (path,) = problem.images
    written = {
        f"{name}_images": (drawn(Path(folder) / f"{problem.id}-{name}.png", _only(path, positions)),)
        for name, positions in (("teacher", teacher), ("contrast", contrast))
    }
    return replace(problem, **written)


def _only(path: str, positions: Sequence[int]) -> Image.Image:
    """Return a mosaic in which all other cells are black."""
    mosaic = Image.open(path).convert("RGB")
    seen = Image.new("RGB", mosaic.size)
    for position in positions:
        left, top = position % 3 * TILE, position // 3 * TILE
        seen.paste(mosaic.crop((left, top, left + TILE, top + TILE)), (left, top))
    return seen


def drawn(path: Path, mosaic: Image.Image) -> str:
    """Write a mosaic to a file unless one is there; returns its path."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_image(mosaic, path)
    return str(path)
