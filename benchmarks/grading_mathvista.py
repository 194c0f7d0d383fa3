"""The sound grader on the published outputs of MathVista's repository, against the letters given there.

    git clone https://github.com/lupantech/MathVista
    python benchmarks/grading_mathvista.py MathVista/results [--show]

Answers of multiple choice that were given a letter there are graded twice: the letter in a box, and the whole response
as it stands; answers to free questions (but programs) as whole responses. A wrong one that is taken is printed with
--show, to be read: what was published is what a language model read in the response.
"""

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ptdpo.records import Answered, Verdict
from ptdpo.rewards import grade_many

# How a response names an option.
_NAMED = (
    r"\(LETTER\)|(?:^|\s)LETTER\)|\*\*LETTER\b|[Oo]ption LETTER\b|(?:answer|letter) is:? \W*LETTER\b|^\s*LETTER[.:]"
    r"|\bLETTER is the (?:correct|right)|[:：是为]\s*LETTER\s*$|^LETTER$|选项?LETTER"
)
_LETTER = re.compile(r"\(?([A-H])\)?[.]?")


@dataclass(frozen=True, slots=True)
class Output:
    """One published response: what is right, what was read out of it, and whether that was called right."""

    run: str
    id: str
    response: str
    options: tuple[str, ...]
    right: str
    published: str
    is_right: bool

    @property
    def says_letter(self) -> bool:
        """Whether the response names its published letter as one names an option."""
        named = _NAMED.replace("LETTER", self.published)
        return bool(re.search(named, self.response))


def read_outputs(folder: Path) -> Iterator[Output]:
    """Yield the answers of all runs but the guesses: of multiple choice those that were given a letter."""
    for path in sorted(folder.rglob("output_*.json")):
        if "guess" in path.name or "template" in path.name:
            continue
        for number, row in json.loads(path.read_text(encoding="utf-8")).items():
            run, response = path.stem.removeprefix("output_"), str(row.get("response", ""))
            said = str(row.get("extraction", "")).strip()
            if row.get("question_type") == "free_form" and "true_false" in row and "code" not in run:
                yield Output(run, number, response, (), str(row["answer"]), said, bool(row["true_false"]))
            letter = _LETTER.fullmatch(said)
            if row.get("question_type") != "multi_choice" or letter is None or row["answer"] not in row["choices"]:
                continue
            right = chr(ord("A") + row["choices"].index(row["answer"]))
            yield Output(run, number, response, tuple(row["choices"]), right, letter[1], right == letter[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the folder results of a clone of lupantech/MathVista")
    parser.add_argument("--show", action="store_true", help="print the wrong ones that are taken")
    options = parser.parse_args()
    outputs = list(read_outputs(options.results))
    if not outputs:
        parser.error(f"no outputs with answers under {options.results}")
    console = Console()
    choices, free = [one for one in outputs if one.options], [one for one in outputs if not one.options]
    console.print(
        f"{len(choices):,} choices and {len(free):,} free answers of {len({one.run for one in outputs})} runs"
    )
    boxed = grade_many([Answered(f"\\boxed{{{one.published}}}", one.right, one.options) for one in choices])
    report(console, "the letter in a box", choices, boxed)
    for name, asked in (("the whole response to a choice", choices), ("the whole free response", free)):
        whole = grade_many([Answered(one.response, one.right, one.options) for one in asked])
        report(console, name, asked, whole)
        for one, verdict in zip(asked, whole, strict=True) if options.show else ():
            if verdict.accuracy and not one.is_right:
                console.print(f"{one.run} {one.id}: right {one.right}, published {one.published}", one.options)
                console.print(f"   {verdict.fallback}: {verdict.extracted!r} in {one.response[:200]!r}", markup=False)


def report(console: Console, name: str, outputs: list[Output], verdicts: list[Verdict]) -> None:
    """Print how many right ones are found, and how many wrong ones are taken."""
    both = list(zip(outputs, verdicts, strict=True))
    right = [(one, verdict) for one, verdict in both if one.is_right]
    named = [(one, verdict) for one, verdict in right if one.options and one.says_letter]
    taken = sum(bool(verdict.accuracy) for one, verdict in both if not one.is_right)
    letters = f"{sum(bool(v.accuracy) for _, v in named):,} of {len(named):,} that name the letter, " if named else ""
    console.print(
        f"{name}: {sum(bool(v.accuracy) for _, v in right):,} of {len(right):,} right ones found"
        f" ({letters}{sum(not one.response.strip() for one, _ in right)} are empty);"
        f" {taken} of {len(both) - len(right):,} wrong ones taken"
    )


if __name__ == "__main__":
    main()
