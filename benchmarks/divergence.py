"""Top-K against full-vocabulary divergence, forward and backward, interleaved in one run: ratios of medians.

Both are the dense versions; what they save is the work on the support, not the log-softmax over the vocabulary.
Run: make bench
"""

import argparse
import statistics
import time

import torch
from rich.console import Console
from rich.table import Table

from ptdpo.algo.divergence import full_divergence, topk_divergence


def seconds(function, student: torch.Tensor, teacher: torch.Tensor) -> float:
    student = student.clone().requires_grad_()
    start = time.perf_counter()
    function(student, teacher).sum().backward()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("vocabulary", "K", "time: Top-K / full", "mean divergence: Top-K / full")
    for vocabulary in (32_000, 151_936):
        student, teacher = 3 * torch.randn(2, options.tokens, vocabulary)
        for k in (10, 100):
            times: dict[str, list[float]] = {"topk": [], "full": []}
            for _ in range(options.repeats):
                times["topk"].append(seconds(lambda s, t, k=k: topk_divergence(s, t, k=k), student, teacher))
                times["full"].append(seconds(full_divergence, student, teacher))
            ratio = statistics.median(times["topk"]) / statistics.median(times["full"])
            kept = topk_divergence(student, teacher, k=k).mean() / full_divergence(student, teacher).mean()
            table.add_row(str(vocabulary), str(k), f"{ratio:.2f}", f"{kept:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
