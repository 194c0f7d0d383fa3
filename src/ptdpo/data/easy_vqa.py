"""The easy-VQA data set as its PyPI package ships it: 64 x 64 images of one coloured shape, plain questions."""

import random
from functools import cache

import easy_vqa

from ptdpo.records import Hint, Problem

SPLITS = ("train", "test")


def _questions(split: str) -> tuple[list[str], list[str], list[int], dict[int, str]]:
    if split not in SPLITS:
        raise ValueError(f"easy-vqa has the splits {', '.join(SPLITS)}, not {split!r}")
    if split == "train":
        return (*easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths())
    return (*easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths())


def load_easy_vqa(split: str, limit: int | None = None, seed: int = 0) -> list[Problem]:
    """Return the questions of a split (train 38,575, test 9,673), or ``limit`` of them drawn at random.

    Raises:
        ValueError: on an unknown split.
    """
    questions, answers, image_ids, paths = _questions(split)
    problems = [
        Problem(f"easy-vqa-{split}-{n}", (paths[image],), question, answer, "easy-vqa")
        for n, (question, answer, image) in enumerate(zip(questions, answers, image_ids, strict=True))
    ]
    if limit is not None and limit < len(problems):
        problems = random.Random(seed).sample(problems, limit)
    return problems


@cache
def descriptions(split: str) -> dict[str, str]:
    """Return "colour shape" by image path, read off the questions about colour and shape."""
    questions, answers, image_ids, paths = _questions(split)
    colour, shape = {}, {}
    for question, answer, image in zip(questions, answers, image_ids, strict=True):
        if question.startswith("what"):
            (colour if "color" in question else shape)[image] = answer
    return {path: f"{colour.get(image, 'some')} {shape.get(image, 'shape')}" for image, path in paths.items()}


def easy_vqa_hint(problem: Problem) -> Hint:
    """Return an answer-free hint written by rule: what to compare, by the kind of question."""
    if problem.problem.startswith("what"):
        asked = "colour" if "color" in problem.problem else "form"
        return Hint("the one shape, not the background.", f"name its colour and form, then give the {asked}.")
    return Hint(
        "the one shape, not the background.", "name its colour and form, then compare with the question; mind a not."
    )


def easy_vqa_solution(problem: Problem) -> str:
    """Return a worked response: say what is seen, then answer."""
    split = problem.id.split("-")[2]
    return f"<think>{descriptions(split)[problem.images[0]]}</think>\n\\boxed{{{problem.answer}}}"


@cache
def tiles_by_colour(split: str) -> dict[str, list[str]]:
    """Return the image paths of a split by the colour of their shape, read off the questions about colour."""
    questions, answers, image_ids, paths = _questions(split)
    colour = {
        image: answer
        for question, answer, image in zip(questions, answers, image_ids, strict=True)
        if "what" in question and "color" in question
    }
    tiles: dict[str, list[str]] = {}
    for image, name in sorted(colour.items()):
        tiles.setdefault(name, []).append(paths[image])
    return tiles
