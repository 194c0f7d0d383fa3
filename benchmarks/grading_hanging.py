"""A batch of answers of which some hang: what it takes, and whether the others keep their verdicts.

python benchmarks/grading_hanging.py [--hanging 40] [--seconds 20]
"""

import argparse
import time

from benchmarks.grading import MIXES, make_batch
from rich.console import Console

from ptdpo.records import Answered
from ptdpo.rewards import Mode, grade_many
from ptdpo.rewards.pool import BATCH_SECONDS

SIZE = 1024


def hanging(mode: Mode, number: int) -> list[Answered]:
    """Return answers that this grading leaves to a worker, which never comes back: nested sums, large factorials."""
    if mode == "mathruler":
        return [Answered(f"<think>x</think> \\boxed{{{9_999_990 + n}!}}", f"{9_999_991 + n}!-1") for n in range(number)]
    double = "\\sum_{{k=1}}^{{{0}}}\\sum_{{j=1}}^{{{1}}} \\sin(k j)"
    return [
        Answered(
            f"<think>x</think> \\boxed{{{double.format(100_000 + n, 100_000 + n)}}}",
            double.format(100_001 + n, 100_000),
        )
        for n in range(number)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hanging", type=int, default=40, help=f"of {SIZE:,} answers")
    parser.add_argument("--seconds", type=float, default=BATCH_SECONDS, help="the batch's limit")
    options = parser.parse_args()
    modes: tuple[Mode, ...] = ("sound", "mathruler")
    for mode in modes:
        others = make_batch(MIXES["ordinary"], SIZE - options.hanging, 7)
        alone = grade_many(others, mode=mode, batch_seconds=600)
        batch = [*others[:500], *hanging(mode, options.hanging), *others[500:]]
        start = time.perf_counter()
        verdicts = grade_many(batch, mode=mode, batch_seconds=options.seconds)
        seconds = time.perf_counter() - start
        late = verdicts[500 : 500 + options.hanging]
        kept = sum(
            one.accuracy == other.accuracy
            for one, other in zip(verdicts[:500] + verdicts[500 + options.hanging :], alone, strict=True)
        )
        noted = sum(one.accuracy == 0 and bool(one.note) for one in late)
        Console().print(
            f"{mode}: {seconds:.1f} s of {options.seconds:g}; {noted} of {len(late)} hanging ones wrong with a note;"
            f" {kept:,} of {len(others):,} others kept their verdicts"
        )


if __name__ == "__main__":
    main()
