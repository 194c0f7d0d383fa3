"""Grading: answers per second through the worker pool against mathruler and math-verify called plainly, side by side.

The batches are made from a seed, another one for each repeat, so that no side profits from answers it has seen. The
three take turns; figures are medians with their range. Writes results/grading.json. With --agreement: how often each
grader agrees with the labels of tests/data/grading_cases.jsonl, into results/grading_agreement.json and
docs/grading.md. Run: make bench, or python benchmarks/grading.py --help
"""

import argparse
import json
import multiprocessing
import os
import random
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from ptdpo.records import Answered, Verdict
from ptdpo.rewards import grade_many
from ptdpo.rewards.pool import SECONDS, WorkerPool

HERE = Path(__file__).parent
CASES = HERE.parent / "tests" / "data" / "grading_cases.jsonl"
PAGE = HERE.parent / "docs" / "grading.md"
MARKS = ("<!-- agreement -->", "<!-- /agreement -->")
THINKING = "The figure shows a triangle with two equal sides, so the angles at its base are equal. " * 20
LETTERS, WORDS = "ABCDE", ("red", "blue", "green", "circle", "triangle", "yes", "no", "Monday")


def integer(rng: random.Random) -> tuple[str, str]:
    number = rng.randint(0, 400)
    return str(number), str(number + rng.choice((0, 1)))


def letter(rng: random.Random) -> tuple[str, str]:
    right = rng.choice(LETTERS)
    return right, rng.choice((right, rng.choice(LETTERS)))


def word(rng: random.Random) -> tuple[str, str]:
    right = rng.choice(WORDS)
    return right, rng.choice((right, rng.choice(WORDS), f"\\text{{{right}}}"))


def decimal(rng: random.Random) -> tuple[str, str]:
    number = rng.randint(1, 9999) / rng.choice((10, 100))
    return str(number), str(rng.choice((number, round(number + 0.1, 2))))


def fraction(rng: random.Random) -> tuple[str, str]:
    top, bottom = rng.randint(1, 60), rng.randint(2, 60)
    right = f"\\frac{{{top}}}{{{bottom}}}"
    return right, rng.choice((right, f"{top}/{bottom}", f"\\dfrac{{{top + 1}}}{{{bottom}}}"))


def root(rng: random.Random) -> tuple[str, str]:
    factor, inside = rng.randint(2, 40), rng.choice((2, 3, 5, 7))
    right = f"{factor}\\sqrt{{{inside}}}"
    return right, rng.choice((right, f"\\sqrt{{{factor**2 * inside}}}", f"{factor + 1}\\sqrt{{{inside}}}"))


def unit(rng: random.Random) -> tuple[str, str]:
    number = rng.randint(1, 300)
    return f"{number} cm", rng.choice((f"{number}\\text{{ cm}}", str(number), f"{number + 1} cm"))


def expression(rng: random.Random) -> tuple[str, str]:
    slope, shift = rng.randint(2, 30), rng.randint(1, 30)
    return f"{slope}x+{shift}", rng.choice((f"{shift}+{slope}x", f"{slope}x-{shift}"))


Maker = Callable[[random.Random], tuple[str, str]]
# Shares as in the nine benchmarks, roughly: most answers are a letter or a number.
ORDINARY: dict[Maker, int] = {
    letter: 35, integer: 25, decimal: 10, word: 8, unit: 6, fraction: 8, root: 6, expression: 2,
}  # fmt: skip
# Nothing that can be decided without symbolic mathematics, unless both sides are spelled alike.
SYMBOLIC: dict[Maker, int] = {fraction: 1, root: 2, expression: 2, decimal: 1}
MIXES = {"ordinary": ORDINARY, "symbolic": SYMBOLIC}


def make_batch(mix: dict[Maker, int], size: int, seed: int) -> list[Answered]:
    rng = random.Random(seed)
    makers = rng.choices(list(mix), list(mix.values()), k=size)
    pairs = [maker(rng) for maker in makers]
    return [Answered(f"<think>{THINKING}</think> The answer is \\boxed{{{given}}}.", right) for right, given in pairs]


def mathruler_plainly(items: Sequence[Answered]) -> list[bool]:
    from mathruler.grader import extract_boxed_content, grade_answer

    return [grade_answer(extract_boxed_content(item.response), item.answer) for item in items]


def math_verify_plainly(items: Sequence[Answered]) -> list[bool]:
    from math_verify import parse, verify

    return [verify(parse(f"${item.answer}$"), parse(item.response)) for item in items]


def throughput(mix: str, size: int, repeats: int) -> dict[str, object]:
    """Return median seconds per batch of each grader, and the ratios to mathruler called plainly."""
    with WorkerPool(1) as one, WorkerPool() as several:
        graders: dict[str, Callable[[Sequence[Answered]], object]] = {
            "mathruler": mathruler_plainly,
            "ours": lambda items: grade_many(items, pool=several),
            "ours, one worker": lambda items: grade_many(items, pool=one),
            "ours, strict": lambda items: grade_many(items, mode="strict", pool=several),
            "ours, lenient": lambda items: grade_many(items, mode="lenient", pool=several),
            "math-verify": math_verify_plainly,
        }
        start = time.perf_counter()
        grade_many(make_batch(MIXES["symbolic"], size, -1), pool=several)
        first = time.perf_counter() - start
        for grader in graders.values():
            grader(make_batch(MIXES[mix], size, -2))
        seconds: dict[str, list[float]] = {name: [] for name in graders}
        for repeat in track(range(repeats), mix, console=Console(stderr=True)):
            items = make_batch(MIXES[mix], size, repeat)
            for name, grader in graders.items():
                start = time.perf_counter()
                grader(items)
                seconds[name].append(time.perf_counter() - start)
            same = [bool(v.accuracy) for v in grade_many(items, pool=several)]
            assert same == mathruler_plainly(items), "the default mode must give mathruler's verdicts"
        workers = several.size
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {
        name: statistics.median(a / b for a, b in zip(values, seconds["mathruler"], strict=True))
        for name, values in seconds.items()
    }
    return {
        "mix": mix,
        "workers": workers,
        "first_batch_seconds": first,
        "seconds": medians,
        "range": {name: [min(values), max(values)] for name, values in seconds.items()},
        "times_mathruler": ratios,
    }


def print_throughput(rows: Sequence[dict], size: int) -> None:
    for row in rows:
        table = Table("grader", "answers / s", "time / mathruler's", title=f"{row['mix']}, {size} answers at a time")
        for name, seconds in row["seconds"].items():
            table.add_row(name, f"{size / seconds:,.0f}", f"{row['times_mathruler'][name]:.2f}")
        Console().print(table)


@dataclass(frozen=True, slots=True)
class Case:
    """A labelled row of the table."""

    style: str
    category: str
    item: Answered
    right: bool
    held_out: bool


def read_cases(path: Path = CASES) -> list[Case]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Case(
            row["style"],
            row["category"],
            Answered(row["response"], row["answer"], tuple(row["options"])),
            row["right"],
            row["held_out"],
        )
        for row in rows
    ]


def one_by_mathruler(item: Answered) -> bool:
    warnings.simplefilter("ignore")
    return mathruler_plainly([item])[0]


def mathruler_with_a_limit(items: Sequence[Answered]) -> list[bool]:
    """Return mathruler's own verdicts; "wrong" where it hangs or raises."""
    said: list[bool] = []
    context = multiprocessing.get_context("spawn")
    while len(said) < len(items):
        with context.Pool(1) as pool:
            pool.apply(one_by_mathruler, (Answered("\\boxed{x+1}", "1+x"),))
            for item in items[len(said) :]:
                try:
                    said.append(pool.apply_async(one_by_mathruler, (item,)).get(SECONDS))
                except multiprocessing.TimeoutError:
                    said.append(False)
                    # Leaving the block kills the process that hangs.
                    break
                except Exception:
                    said.append(False)
    return said


def agreement(cases: Sequence[Case]) -> dict[str, list[bool]]:
    """Return for each grader which labels it agrees with; a grader that hangs or raises says "wrong"."""
    items = [case.item for case in cases]
    graded: dict[str, list[Verdict]] = {
        "ours, default": grade_many(items, second_opinion=True),
        "ours, strict": grade_many(items, mode="strict"),
        "ours, lenient": grade_many(items, mode="lenient"),
    }
    opinions = [bool(verdict.second) for verdict in graded["ours, default"]]
    said = {name: [bool(v.accuracy) for v in verdicts] for name, verdicts in graded.items()}
    said = {"mathruler": mathruler_with_a_limit(items), **said, "math-verify": opinions}
    return {name: [a == case.right for a, case in zip(answers, cases, strict=True)] for name, answers in said.items()}


def agreement_rows(cases: Sequence[Case], agrees: dict[str, list[bool]]) -> list[tuple[str, int, dict[str, int]]]:
    """Return (group, cases, agreements by grader) per category, for the held-out rows, and in all."""
    groups: dict[str, list[int]] = {}
    for number, case in enumerate(cases):
        groups.setdefault(f"{case.category}, {case.style}" if case.style != "hostile" else "hostile", []).append(number)
    groups = dict(sorted(groups.items()))
    groups["should be right"] = [number for number, case in enumerate(cases) if case.right]
    groups["should be wrong"] = [number for number, case in enumerate(cases) if not case.right]
    groups["held out"] = [number for number, case in enumerate(cases) if case.held_out]
    groups["all"] = list(range(len(cases)))
    return [
        (group, len(numbers), {name: sum(hits[number] for number in numbers) for name, hits in agrees.items()})
        for group, numbers in groups.items()
    ]


def write_page(rows: Sequence[tuple[str, int, dict[str, int]]]) -> None:
    names = list(rows[0][2])
    lines = ["| category, style | cases | " + " | ".join(names) + " |", "|---|" + "---:|" * (len(names) + 1)]
    for group, count, hits in rows:
        cells = [f"{hits[name]} ({hits[name] / count:.0%})" for name in names]
        lines.append(f"| {group} | {count} | " + " | ".join(cells) + " |")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    PAGE.write_text("\n".join((before + MARKS[0], *lines, MARKS[1] + after)), encoding="utf-8")
    Console().print("\n".join(lines), markup=False, soft_wrap=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agreement", action="store_true", help="agreement with the labelled table instead of speed")
    parser.add_argument("--size", type=int, default=1000, help="answers per batch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, default=None, help="where the figures go")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.agreement:
        cases = read_cases()
        rows = agreement_rows(cases, agreement(cases))
        write_page(rows)
        found: object = [{"group": group, "cases": count, "agree": hits} for group, count, hits in rows]
        target = options.json or HERE / "results" / "grading_agreement.json"
    else:
        measured = [throughput(mix, options.size, options.repeats) for mix in MIXES]
        print_throughput(measured, options.size)
        found = {"size": options.size, "repeats": options.repeats, "cpus": os.cpu_count(), "mixes": measured}
        target = options.json or HERE / "results" / "grading.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
