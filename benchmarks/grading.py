"""Grading: answers per second through the worker pool against mathruler and math-verify called plainly, side by side.

The batches are made from a seed, another one for each repeat, so that no side profits from answers it has seen. The
three take turns; figures are medians with their range. Writes results/grading.json. With --agreement: recall and
false positives of each grader by kind of answer (tests/data/grading_kinds.jsonl and grading_fresh.jsonl) and agreement
with the labels of tests/data/grading_cases.jsonl, into results/grading_agreement.json and docs/grading.md.
Run: make bench, or python benchmarks/grading.py --help
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
KINDS = CASES.with_name("grading_kinds.jsonl")
FRESH = CASES.with_name("grading_fresh.jsonl")
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
ROOTS: dict[Maker, int] = {fraction: 1, root: 1}
MIXES = {"ordinary": ORDINARY, "symbolic": SYMBOLIC, "roots and fractions": ROOTS}


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
            "sound": lambda items: grade_many(items, pool=several),
            "parity": lambda items: grade_many(items, mode="mathruler", pool=several),
            "parity, one worker": lambda items: grade_many(items, mode="mathruler", pool=one),
            "math-verify": math_verify_plainly,
        }
        start = time.perf_counter()
        grade_many(make_batch(MIXES["symbolic"], size, -1), mode="mathruler", pool=several)
        first = time.perf_counter() - start
        for grader in graders.values():
            grader(make_batch(MIXES[mix], size, -2))
        seconds: dict[str, list[float]] = {name: [] for name in graders}
        cpu: dict[str, list[float]] = {name: [] for name in graders}
        for repeat in track(range(repeats), mix, console=Console(stderr=True)):
            items = make_batch(MIXES[mix], size, repeat)
            for name, grader in graders.items():
                start, spent = time.perf_counter(), time.process_time()
                grader(items)
                seconds[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - spent)
            same = [bool(v.accuracy) for v in grade_many(items, mode="mathruler", batch_seconds=600, pool=several)]
            assert same == mathruler_plainly(items), "parity must give mathruler's verdicts"
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
        # Of this process: all of it for mathruler, math-verify, and for sound where nothing is asked of workers.
        "cpu_seconds": {name: statistics.median(values) for name, values in cpu.items()},
    }


def print_throughput(rows: Sequence[dict], size: int) -> None:
    for row in rows:
        table = Table(
            "grader",
            "answers / s",
            "a CPU second",
            "time / mathruler's",
            title=f"{row['mix']}, {size} answers at a time",
        )
        for name, seconds in row["seconds"].items():
            table.add_row(
                name,
                f"{size / seconds:,.0f}",
                f"{size / row['cpu_seconds'][name]:,.0f}",
                f"{row['times_mathruler'][name]:.2f}",
            )
        Console().print(table)


@dataclass(frozen=True, slots=True)
class Case:
    """A labelled row of the table."""

    style: str
    category: str
    item: Answered
    right: bool


def read_cases(path: Path = CASES) -> list[Case]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Case(
            row["style"],
            row["category"],
            Answered(row["response"], row["answer"], tuple(row["options"])),
            row["right"],
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


GRADERS = ("sound", "mathruler", "math-verify")


def verdicts_of(items: Sequence[Answered]) -> dict[str, list[bool]]:
    """Return what each grader says; one that hangs or raises says "wrong"."""
    sound: list[Verdict] = grade_many(items, second_opinion=True, batch_seconds=600)
    return {
        "sound": [bool(verdict.accuracy) for verdict in sound],
        "mathruler": mathruler_with_a_limit(items),
        "math-verify": [bool(verdict.second) for verdict in sound],
    }


def style_rows(cases: Sequence[Case]) -> list[dict]:
    """Return how often each grader agrees with the labels: per category, for the held-out rows, and in all."""
    said = verdicts_of([case.item for case in cases])
    agrees = {name: [a == case.right for a, case in zip(answers, cases, strict=True)] for name, answers in said.items()}
    groups: dict[str, list[int]] = {}
    for number, case in enumerate(cases):
        groups.setdefault(f"{case.category}, {case.style}" if case.style != "hostile" else "hostile", []).append(number)
    groups = dict(sorted(groups.items()))
    groups["should be right"] = [number for number, case in enumerate(cases) if case.right]
    groups["should be wrong"] = [number for number, case in enumerate(cases) if not case.right]
    groups["all"] = list(range(len(cases)))
    return [
        {
            "group": group,
            "cases": len(numbers),
            "agree": {name: sum(hits[number] for number in numbers) for name, hits in agrees.items()},
        }
        for group, numbers in groups.items()
    ]


def kind_rows() -> list[dict]:
    """Return right answers graded right, and wrong ones graded right, per kind of answer."""
    rows = [json.loads(line) for line in KINDS.read_text(encoding="utf-8").splitlines()]
    flat = [(row, given, label) for row in rows for label in ("right", "wrong") for given in row[label]]
    said = verdicts_of(
        [
            Answered(f"<think>x</think> \\boxed{{{given}}}", row["answer"], tuple(row["options"]))
            for row, given, _ in flat
        ]
    )
    groups: dict[str, list[int]] = {}
    for number, (row, _, _) in enumerate(flat):
        groups.setdefault(row["kind"], []).append(number)
    groups["all"] = list(range(len(flat)))
    return [
        {
            "kind": kind,
            **{label: sum(flat[n][2] == label for n in numbers) for label in ("right", "wrong")},
            "recalled": {name: sum(said[name][n] for n in numbers if flat[n][2] == "right") for name in GRADERS},
            "false_positives": {name: sum(said[name][n] for n in numbers if flat[n][2] == "wrong") for name in GRADERS},
        }
        for kind, numbers in groups.items()
    ]


def fresh_rows() -> list[dict]:
    """Return the same for the cases that were written after the grader, with sound's verdicts at first sight."""
    rows = [json.loads(line) for line in FRESH.read_text(encoding="utf-8").splitlines()]
    said = verdicts_of([Answered(row["response"], row["answer"], tuple(row["options"])) for row in rows])
    said["first sight"] = [row["first_sight"] for row in rows]
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(row["kind"], []).append(number)
    for part in ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"):
        groups[f"{part} set"] = [number for number, row in enumerate(rows) if row["set"] == part]
    return [
        {
            "kind": kind,
            "right": sum(rows[n]["right"] for n in numbers),
            "wrong": sum(not rows[n]["right"] for n in numbers),
            "recalled": {name: sum(answers[n] for n in numbers if rows[n]["right"]) for name, answers in said.items()},
            "false_positives": {
                name: sum(answers[n] for n in numbers if not rows[n]["right"]) for name, answers in said.items()
            },
        }
        for kind, numbers in groups.items()
    ]


def style_table(rows: Sequence[dict]) -> list[str]:
    lines = ["| category, style | cases | " + " | ".join(GRADERS) + " |", "|---|" + "---:|" * (len(GRADERS) + 1)]
    for row in rows:
        cells = [f"{row['agree'][name]} ({row['agree'][name] / row['cases']:.0%})" for name in GRADERS]
        lines.append(f"| {row['group']} | {row['cases']} | " + " | ".join(cells) + " |")
    return lines


def kind_table(rows: Sequence[dict], graders: Sequence[str] = GRADERS) -> list[str]:
    heads = [f"{name}: recall | false positives" for name in graders]
    lines = ["| kind | right | wrong | " + " | ".join(heads) + " |", "|---|" + "---:|" * (2 * len(graders) + 2)]
    for row in rows:
        cells = [
            f"{row['recalled'][name] / row['right']:.0%} | {row['false_positives'][name] or '-'}" for name in graders
        ]
        lines.append(f"| {row['kind']} | {row['right']} | {row['wrong']} | " + " | ".join(cells) + " |")
    return lines


def write_page(tables: dict[str, Sequence[str]]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in tables.items():
        opened, closed = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, _, rest = text.partition(opened)
        _, _, after = rest.partition(closed)
        text = "\n".join((before + opened, *lines, closed + after))
        Console().print("\n".join(lines), markup=False, soft_wrap=True)
    PAGE.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agreement", action="store_true", help="agreement with the labelled table instead of speed")
    parser.add_argument("--size", type=int, default=1000, help="answers per batch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, default=None, help="where the figures go")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.agreement:
        styles, kinds, fresh = style_rows(read_cases()), kind_rows(), fresh_rows()
        write_page(
            {
                "agreement": style_table(styles),
                "kinds": kind_table(kinds),
                "fresh": kind_table(fresh, ("first sight", *GRADERS)),
            }
        )
        found: object = {"styles": styles, "kinds": kinds, "fresh": fresh}
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
