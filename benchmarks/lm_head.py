"""Time and memory of the fused tutored head against its peers, and the error of Top-K supports.

Every measurement is a fresh process; methods are interleaved; figures are medians with their range. Peers that are
not installed are left out: TRL comes with ptdpo, Liger with ``pip install liger-kernel``.
Run: make bench, or python benchmarks/lm_head.py --help. Writes results/lm_head.json; lm_head_page.py draws it.
"""

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

HIDDEN, K = 256, 100
RESULTS = Path(__file__).parent / "results"


class Problem:
    """Student and teacher of one size; both sides' logits have standard deviation 3."""

    def __init__(self, tokens: int, vocabulary: int) -> None:
        torch.manual_seed(0)
        self.hidden = torch.randn(tokens, HIDDEN).requires_grad_()
        self.teacher_hidden = self.hidden.detach() + 0.3 * torch.randn(tokens, HIDDEN)
        self.weight = (torch.randn(vocabulary, HIDDEN) * (3 / HIDDEN**0.5)).requires_grad_()
        self.teacher_weight = self.weight.detach().clone()
        self.targets = torch.randint(vocabulary, (tokens,))

    @property
    def gradient_bytes(self) -> int:
        return 4 * (self.hidden.numel() + self.weight.numel())


def ours(p: Problem) -> None:
    from ptdpo.algo.lm_head import teacher_topk, token_stats

    teacher = teacher_topk(p.teacher_hidden, p.teacher_weight, k=K)
    stats = token_stats(p.hidden, p.weight, p.targets, teacher=teacher, k=K)
    (stats.log_prob.sum() + stats.divergence.sum()).backward()


def dense(p: Problem, divergence: Callable) -> None:
    student = p.hidden @ p.weight.T
    with torch.no_grad():
        teacher = p.teacher_hidden @ p.teacher_weight.T
    log_prob = student.log_softmax(-1).gather(-1, p.targets[:, None]).squeeze(-1)
    (log_prob.sum() + divergence(student, teacher).sum()).backward()


def dense_topk(p: Problem) -> None:
    from ptdpo.algo.divergence import topk_divergence

    dense(p, lambda s, t: topk_divergence(s, t, k=K))


def dense_full(p: Problem) -> None:
    from ptdpo.algo.divergence import full_divergence

    dense(p, full_divergence)


def trl_sdpo(p: Problem) -> None:
    from trl.experimental.sdpo.loss_utils import compute_topk_self_distillation_loss

    settings = {"distillation_topk": K, "distillation_alpha": 0.5, "distillation_add_tail": True}
    dense(p, lambda s, t: compute_topk_self_distillation_loss(s, t, **settings))


def trl_chunked(p: Problem) -> None:
    from trl.kernels import ChunkedLogProbFunction
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    log_prob, *_ = ChunkedLogProbFunction.apply(p.hidden, p.weight, None, p.targets, 1.0, 8192, None, 1.0, ("entropy",))
    divergence, _ = ChunkedDivergenceFunction.apply(
        p.hidden, p.weight, None, p.teacher_hidden, p.teacher_weight, None, 0.5
    )
    (log_prob.sum() + divergence.sum()).backward()


def liger(p: Problem) -> None:
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(compiled=False)
    loss(p.hidden, p.weight, p.teacher_hidden, p.teacher_weight, p.targets).backward()


@torch.no_grad()
def bound(p: Problem) -> None:
    """The bare products: logits of both sides, and what the backward pass multiplies."""
    rows = 512
    logits, to_weight = torch.empty(rows, len(p.weight)), torch.zeros_like(p.weight)
    to_hidden = torch.empty_like(p.hidden)
    for n in range(0, len(p.hidden), rows):
        states = p.hidden[n : n + rows]
        here = logits[: len(states)]
        torch.mm(p.teacher_hidden[n : n + rows], p.teacher_weight.T, out=here)
        torch.mm(states, p.weight.T, out=here)
        torch.mm(here, p.weight, out=to_hidden[n : n + rows])
        to_weight.addmm_(here.T, states)


METHODS: dict[str, Callable[[Problem], None]] = {
    "bare products": bound,
    "ptdpo fused": ours,
    "dense Top-K": dense_topk,
    "dense full": dense_full,
    "TRL SDPO Top-K": trl_sdpo,
    "TRL chunked": trl_chunked,
    "Liger JSD": liger,
}


def measure_here(method: str, tokens: int, vocabulary: int) -> dict[str, float]:
    """Run one method once in this process; peak memory counts neither inputs nor gradients."""
    torch.set_num_threads(1)
    METHODS[method](Problem(8, 256))
    problem = Problem(tokens, vocabulary)
    before = resident()
    start = time.perf_counter()
    METHODS[method](problem)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "mib": (peak - before - problem.gradient_bytes) / 2**20}


def resident() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()


def measure(method: str, tokens: int, vocabulary: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", method, str(tokens), str(vocabulary)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"ended by signal {-done.returncode}"
        raise RuntimeError(f"{method} at {tokens} x {vocabulary}: {reason}")
    return json.loads(done.stdout.splitlines()[-1])


def support_errors() -> list[dict[str, object]]:
    """Mean divergence of each support as a share of the full one, on peaked and on flat distributions."""
    from ptdpo.algo.divergence import full_divergence, topk_divergence

    rows = []
    for shape, scale in (("peaked", 6.0), ("flat", 1.0)):
        torch.manual_seed(0)
        student = scale * torch.randn(64, 32_000)
        teacher = student + 0.3 * scale * torch.randn(64, 32_000)
        full = full_divergence(student, teacher)
        for k in (10, 50, 100, 200):
            for name, settings in {
                "union + tail": {},
                "student + tail": {"support": "student"},
                "union, renormalised": {"tail": "none"},
            }.items():
                ratio = topk_divergence(student, teacher, k=k, **settings) / full
                rows.append({"shape": shape, "k": k, "support": name, "ratio": ratio.mean().item()})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=3, metavar=("METHOD", "TOKENS", "VOCABULARY"), help="one measurement, here")
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[32_000, 151_936])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "lm_head.json")
    options = parser.parse_args()
    if options.one:
        method, tokens, vocabulary = options.one
        print(json.dumps(measure_here(method, int(tokens), int(vocabulary))))
        return
    console = Console(stderr=True)
    methods = [m for m in METHODS if m != "Liger JSD" or importlib.util.find_spec("liger_kernel")]
    jobs = [
        (m, n, v) for v in options.vocabularies for n in options.tokens for _ in range(options.repeats) for m in methods
    ]
    # Every measurement is kept as it comes: a later failure loses nothing, and a second run goes on.
    log = options.out.with_suffix(".jsonl")
    log.parent.mkdir(parents=True, exist_ok=True)
    found: dict[tuple[str, int, int], list[dict[str, float]]] = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        *key, run = json.loads(line)
        found.setdefault(tuple(key), []).append(run)
    for number, job in enumerate(track(jobs, "measuring", console=console)):
        if len(found.get(job, [])) > number // len(methods) % options.repeats:
            continue
        try:
            run = measure(*job)
        except RuntimeError as error:
            console.print(f"left out: {error}")
            continue
        found.setdefault(job, []).append(run)
        with log.open("a") as file:
            file.write(json.dumps([*job, run]) + "\n")
        if not console.is_terminal:
            console.print(f"{number + 1} of {len(jobs)}: {job}, {run}")
    rows = []
    for (method, tokens, vocabulary), runs in found.items():
        bare = [run["seconds"] for run in found[("bare products", tokens, vocabulary)]]
        seconds, memory = [run["seconds"] for run in runs], [run["mib"] for run in runs]
        ratios = [s / statistics.median(bare) for s in seconds]
        row = {"method": method, "tokens": tokens, "vocabulary": vocabulary, "seconds": statistics.median(seconds)}
        row |= {"ratio": statistics.median(ratios), "ratio_range": [min(ratios), max(ratios)]}
        row |= {"mib": statistics.median(memory), "mib_range": [min(memory), max(memory)], "runs": len(runs)}
        rows.append(row)
        console.print(f"{method:16} N {tokens:5} V {vocabulary:6}: {row['ratio']:.2f} x, {rows[-1]['mib']:.0f} MiB")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    content = {"hidden": HIDDEN, "k": K, "repeats": options.repeats, "runs": rows, "supports": support_errors()}
    options.out.write_text(json.dumps(content, indent=1) + "\n")
    console.print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
