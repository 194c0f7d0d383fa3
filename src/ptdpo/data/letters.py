"""Letters counted in a text: the task ``letter_counting`` of the package reasoning-gym, with hints made by rule.

A small language model mostly fails: it reads tokens, not letters. The hint says which words hold the letter and spells
them out; how often it stands in them, and the sum, are left to the reader.
"""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ptdpo.data.files import write_hints, write_problems, write_solutions
from ptdpo.data.prompts import hint_text, with_hint
from ptdpo.records import Hint, Problem, Solution

# Texts of so many words; the package's own default is 5 to 15.
_FEWEST_WORDS, _MOST_WORDS = 4, 8
# Of these answers equally many: as they are drawn, two in five are 1, and guessing it would pay.
ANSWERS = ("1", "2", "3", "4", "5")
# Five in a text is one in thirty.
_DRAWN = 100
# The package makes item n of a seed from their sum: of neighbouring seeds all items but one would be the same.
_APART = 10_000_000


@dataclass(frozen=True, slots=True)
class Counted:
    """One problem with its hint and its worked response."""

    problem: Problem
    hint: Hint
    solution: Solution


def letter_problems(split: str, count: int, seed: int) -> list[Counted]:
    """Return problems of a split; each split and seed is drawn from a stream of its own.

    Raises:
        ValueError: if the package is not installed.
    """
    try:
        reasoning_gym = importlib.import_module("reasoning_gym")
    except ImportError as error:
        raise ValueError(f"{error}: pip install reasoning-gym, and what it needs") from error
    assert _DRAWN * count <= _APART, "the streams of splits and seeds must not meet"
    place = {"train": 0, "validation": 1, "test": 2}[split]
    drawn = reasoning_gym.create_dataset(
        "letter_counting",
        size=_DRAWN * count,
        seed=(3 * seed + place) * _APART,
        min_words=_FEWEST_WORDS,
        max_words=_MOST_WORDS,
    )
    return [_counted(f"letters-{split}-{seed}-{number}", entry) for number, entry in enumerate(_balanced(drawn, count))]


def _balanced(drawn: Iterable[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """Return the first so many with each answer equally often, up to one."""
    left = {answer: (count + len(ANSWERS) - 1 - n) // len(ANSWERS) for n, answer in enumerate(ANSWERS)}
    kept = []
    for entry in drawn:
        if left.get(entry["answer"], 0):
            left[entry["answer"]] -= 1
            kept.append(entry)
        if len(kept) == count:
            break
    assert len(kept) == count, f"{count} problems need more than {_DRAWN} draws each"
    return kept


SIZES = {"train": 480, "validation": 64, "test": 96}
WARM_UP = 256
# Of no run.
_WARM_SEED = 1_000


def write_letters(folder: Path, seed: int) -> None:
    """Write the problems of a seed by split, and hints and solutions of those for training."""
    for split, count in SIZES.items():
        made = letter_problems(split, count, seed)
        write_problems(folder / f"{split}-{seed}.jsonl", [one.problem for one in made])
        if split == "train":
            write_hints(folder / f"hints-{seed}.jsonl", {one.problem.id: one.hint for one in made}, model="rule")
            write_solutions(folder / f"solutions-{seed}.jsonl", [one.solution for one in made])


def write_warm_up(folder: Path) -> None:
    """Write ``warm.jsonl`` and ``warm.solutions.jsonl``: other problems, every second one with its hint in the text.

    As it comes the model boxes nothing, so no rollout would ever be right; fine-tuned on these it answers in the right
    form, and has read hints.
    """
    made = letter_problems("train", WARM_UP, seed=_WARM_SEED)
    problems = [
        replace(one.problem, problem=with_hint(one.problem.problem, hint_text(one.hint))) if number % 2 else one.problem
        for number, one in enumerate(made)
    ]
    write_problems(folder / "warm.jsonl", problems)
    write_solutions(folder / "warm.solutions.jsonl", [one.solution for one in made])


def _counted(key: str, entry: Mapping[str, Any]) -> Counted:
    letter, words = entry["metadata"]["target_letter"], entry["metadata"]["span"]
    found = [word for word in words if letter in word.lower()]
    problem = Problem(key, (), entry["question"], entry["answer"], "letter-counting")
    return Counted(problem, _hint(letter, found), Solution(key, _response(letter, found)))


def _hint(letter: str, found: Sequence[str]) -> Hint:
    if not found:
        return Hint(f'no word has the letter "{letter}".', "nothing is to be counted.")
    spelled = ", ".join(f"{word} ({'-'.join(word.lower())})" for word in found)
    return Hint(f"{spelled}; ignore the other words.", f'count each "{letter}" that is spelled out, then add.')


def _response(letter: str, found: Sequence[str]) -> str:
    counts = [word.lower().count(letter) for word in found]
    named = ", ".join(f"{word} has {count}" for word, count in zip(found, counts, strict=True))
    said = f'Words with "{letter}": {named}.' if found else f'No word has "{letter}".'
    added = f" {' + '.join(map(str, counts))} = {sum(counts)}." if len(counts) > 1 else ""
    return f"{said}{added} The answer is \\boxed{{{sum(counts)}}}"
