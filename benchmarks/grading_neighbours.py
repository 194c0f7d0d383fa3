"""What the sound grader takes of answers near the right one: those of other questions, and the right one changed.

    python benchmarks/grading_neighbours.py [--show]

Reads the labelled answers in boxes (tests/data/grading_kinds.jsonl, grading_fresh.jsonl). What is taken may mean the
same (72° and 72, 048 and 48): --show prints it, to be read.
"""

import argparse
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator

from benchmarks.grading import FRESH, KINDS
from rich.console import Console

from ptdpo.records import Answered
from ptdpo.rewards import grade_many
from ptdpo.rewards.extraction import last_boxed

# In each kind: expected answer -> right answers to it.
Labelled = dict[str, dict[str, list[str]]]
OTHERS = 12
SWAPPED = (
    ("\\sin", "\\cos"), ("\\cup", "\\cap"), ("cm", "mm"), ("km", "m"), ("\\le", "\\ge"), ("\\pi", "2\\pi"),
    ("sqrt", "sqrt[3]"), ("and", "or"), ("PM", "AM"), ("x", "y"), ("^2", "^3"), ("_2", "_3"),
)  # fmt: skip
_BRACKETS = str.maketrans("([)]", "[(])")


def read_labelled() -> Labelled:
    """Return the answers without options that were labelled right, by kind."""
    found: Labelled = defaultdict(lambda: defaultdict(list))
    for row in map(json.loads, KINDS.read_text(encoding="utf-8").splitlines()):
        if not row["options"]:
            found[row["kind"]][row["answer"]] += row["right"]
    for row in map(json.loads, FRESH.read_text(encoding="utf-8").splitlines()):
        given = last_boxed(row["response"])
        if row["right"] and given and not row["options"] and row["kind"] in found:
            found[row["kind"]][row["answer"]].append(given)
    return found


def of_other_questions(labelled: Labelled) -> Iterator[tuple[str, str]]:
    """Yield (given, expected): right answers to the other questions of a kind, and to some of other kinds."""
    rng = random.Random(0)
    everywhere = [(kind, answer) for kind, answers in labelled.items() for answer in answers]
    for kind, answers in labelled.items():
        for own, right in answers.items():
            others = [answer for answer in answers if answer != own]
            others += [answer for other, answer in rng.sample(everywhere, OTHERS) if other != kind]
            yield from ((given, expected) for given in right for expected in others)


def changed(answer: str) -> Iterator[str]:
    """Yield an answer changed in one place: a figure, a sign, a bracket, a case, two characters swapped, a denial."""
    for place, char in enumerate(answer):
        before, after = answer[:place], answer[place + 1 :]
        plain = re.search(r"\\[a-zA-Z]*$", before + char) is None
        if char.isdigit():
            yield from (before + str((int(char) + 1) % 10) + after, before + "0" + char + after, before + after)
        elif char in "+-":
            yield before + ("-" if char == "+" else "+") + after
        elif char in "<>":
            yield before + (">" if char == "<" else "<") + after
        elif char in "()[]":
            yield before + char.translate(_BRACKETS) + after
        elif char in ",.:;":
            yield from (before + after, before + ("." if char == "," else ",") + after)
        elif char.isalpha() and plain:
            yield before + char.swapcase() + after
        if after[:1].isalnum() and char.isalnum() and after[0] != char and plain:
            yield before + after[0] + char + after[1:]
    yield from (f"-{answer}", f"{answer}0", f"{answer}%", f"{answer} or 3", f"not {answer}")
    yield from (answer.replace(old, new, 1) for old, new in SWAPPED if old in answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="print what is taken")
    options = parser.parse_args()
    labelled = read_labelled()
    near = [
        (one, answer) for answers in labelled.values() for answer in answers for one in dict.fromkeys(changed(answer))
    ]
    console = Console()
    for name, pairs in (("of other questions", list(of_other_questions(labelled))), ("changed in one place", near)):
        pairs = [(given, expected) for given, expected in pairs if given.strip() and given != expected]
        items = [Answered(f"<think>x</think> \\boxed{{{given}}}", expected) for given, expected in pairs]
        verdicts = grade_many(items, batch_seconds=600)
        taken = [pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.accuracy]
        console.print(f"{name}: {len(taken):,} of {len(pairs):,} taken")
        for given, expected in taken if options.show else ():
            console.print(f"   {given!r} for {expected!r}", markup=False, highlight=False)


if __name__ == "__main__":
    main()
