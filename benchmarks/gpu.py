"""Everything that a GPU must show, in one command: correctness of the head first, then its speed and memory.

Sections run in order; each is written to the results as it ends, and a second run goes on with what is missing
(--fresh starts anew). A fault in one section is a row of the table, and the exit code is 1. No network is used.
Run: make gpu, or python benchmarks/gpu.py --help.
"""

import argparse
import contextlib
import importlib
import importlib.util
import itertools
import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch

from ptdpo.algo.backends import Backend
from ptdpo.algo.dense_head import dense_token_stats
from ptdpo.algo.divergence import Kind, Support, Tail
from ptdpo.algo.lm_head import TokenStats, teacher_topk, token_stats

RESULTS = Path(__file__).parent / "results"
KINDS, SUPPORTS, TAILS = get_args(Kind), get_args(Support), get_args(Tail)
K = 100
# Largest errors allowed: absolute for values, relative norm for gradients.
TOLERANCES = {torch.float64: (1e-11, 1e-11), torch.float32: (5e-5, 5e-5), torch.bfloat16: (2e-4, 1e-2)}


@dataclass(frozen=True, slots=True)
class Problem:
    """Student and teacher of one size; logits have standard deviation ``spread``."""

    hidden: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    targets: torch.Tensor
    rows: torch.Tensor
    teacher_hidden: torch.Tensor

    @staticmethod
    def draw(
        device: torch.device, dtype: torch.dtype, tokens: int, size: int, vocabulary: int, *, bias: bool = False,
        tutored: int | None = None, spread: float = 3.0,
    ) -> "Problem":  # fmt: skip
        """Return random numbers, rounded to the type."""
        generator = torch.Generator(device).manual_seed(tokens + vocabulary)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, device=device)

        hidden, weight = normal(tokens, size), normal(vocabulary, size) * (spread / size**0.5)
        rows = torch.randperm(tokens, generator=generator, device=device)[: tokens if tutored is None else tutored]
        return Problem(
            hidden.to(dtype),
            weight.to(dtype),
            normal(vocabulary).to(dtype) if bias else None,
            torch.randint(vocabulary, (tokens,), generator=generator, device=device),
            rows,
            (hidden[rows] + 0.3 * normal(len(rows), size)).to(dtype),
        )

    def to(self, dtype: torch.dtype) -> "Problem":
        """Return the same numbers in another type."""
        bias = None if self.bias is None else self.bias.to(dtype)
        return Problem(
            self.hidden.to(dtype), self.weight.to(dtype), bias, self.targets, self.rows, self.teacher_hidden.to(dtype)
        )


Score = Callable[..., TokenStats]


def scored(
    p: Problem, score: Score, settings: dict[str, Any], backend: Backend
) -> tuple[TokenStats, list[torch.Tensor]]:
    """Return the statistics, and the gradients of a function of all three differentiable outputs."""
    leaves = [t.clone().requires_grad_() for t in (p.hidden, p.weight, p.bias) if t is not None]
    bias = leaves[2] if p.bias is not None else None
    shared = {"k": settings.get("k", K), "temperature": settings.get("temperature", 1.0)}
    teacher = teacher_topk(p.teacher_hidden, p.weight, p.bias, **shared, backend=backend)
    extra = {} if score is dense_token_stats else {"backend": backend}
    stats = score(leaves[0], leaves[1], p.targets, bias, teacher=teacher, rows=p.rows, **settings, **extra)
    weights = torch.linspace(-1, 1, len(p.targets), device=p.hidden.device, dtype=stats.log_prob.dtype)
    loss = (stats.log_prob * weights).sum() + (stats.entropy * weights.flip(0)).sum()
    (loss + (stats.divergence * weights[: len(p.rows)]).sum()).backward()
    return stats, [leaf.grad for leaf in leaves if leaf.grad is not None]


def errors(p: Problem, backend: Backend, **settings: Any) -> tuple[float, float]:
    """Return the largest absolute error of the values and relative error of the gradients against dense float64."""
    expected, gradients = scored(p.to(torch.float64), dense_token_stats, settings, "torch")
    got, mine = scored(p, token_stats, settings, backend)
    value = max((a.double() - b).abs().max().item() for a, b in zip(got, expected, strict=True) if a.numel())
    gradient = max(((a.double() - b).norm() / b.norm()).item() for a, b in zip(mine, gradients, strict=True))
    return value, gradient


def backends(device: torch.device) -> list[Backend]:
    """Return what can be tried here."""
    interpreted = bool(os.environ.get("TRITON_INTERPRET"))
    usable = importlib.util.find_spec("triton") is not None and (device.type == "cuda" or interpreted)
    return ["torch", "triton"] if usable else ["torch"]


def correctness(device: torch.device) -> Iterator[dict[str, object]]:
    """Yield one row per backend and type: the worst of all kinds, supports and tails, and of odd sizes."""
    for backend, (dtype, limits) in itertools.product(backends(device), TOLERANCES.items()):
        worst, where, tried = [0.0, 0.0], ["", ""], 0
        for kind, support, tail in itertools.product(KINDS, SUPPORTS, TAILS):
            if (kind, tail) == ("reverse_kl", "student"):
                continue
            for tokens, vocabulary, bias in ((37, 1_003, False), (130, 9_000, True)):
                p = Problem.draw(device, dtype, tokens, 64, vocabulary, bias=bias, tutored=tokens * 2 // 3)
                settings = {"kind": kind, "support": support, "tail": tail, "k": 20, "temperature": 0.7}
                for n, error in enumerate(errors(p, backend, **settings)):
                    if not error <= worst[n]:
                        worst[n], where[n] = error, f"{kind}, {support}, {tail}, V {vocabulary}"
                tried += 1
        right = all(error <= limit for error, limit in zip(worst, limits, strict=True))
        yield {
            "what": f"{backend}, {dtype}", "cases": tried, "value": worst[0], "gradient": worst[1],
            "limits": limits, "worst": where, "right": right,
        }  # fmt: skip


def recomputed(device: torch.device) -> Iterator[dict[str, object]]:
    """Yield the errors where only some tokens' shares are kept, and where the backward pass runs twice."""
    if "triton" not in backends(device):
        return
    from ptdpo.algo import triton_calls

    before = triton_calls.KEPT_BYTES
    triton_calls.KEPT_BYTES = 4 * 1_024 * 50
    try:
        value, gradient = errors(Problem.draw(device, torch.float32, 130, 64, 1_003, tutored=70), "triton", k=20)
    finally:
        triton_calls.KEPT_BYTES = before
    yield {"what": "50 of 130 tokens kept", "value": value, "gradient": gradient, "right": max(value, gradient) < 5e-5}


def autocast(device: torch.device) -> Iterator[dict[str, object]]:
    """Yield the errors of float32 weights under bfloat16 autocast."""
    for backend in backends(device):
        p = Problem.draw(device, torch.bfloat16, 130, 64, 9_000, tutored=80).to(torch.float32)
        expected, gradients = scored(p.to(torch.float64), dense_token_stats, {}, "torch")
        with torch.autocast(device.type, dtype=torch.bfloat16):
            got, mine = scored(p, token_stats, {}, backend)
        value = max((a.double() - b).abs().max().item() for a, b in zip(got, expected, strict=True))
        gradient = max(((a.double() - b).norm() / b.norm()).item() for a, b in zip(mine, gradients, strict=True))
        right = value < 2e-4 and gradient < 1e-2 and mine[0].dtype == torch.float32
        yield {"what": f"{backend} under autocast", "value": value, "gradient": gradient, "right": right}


def synchronisations(device: torch.device) -> Iterator[dict[str, object]]:
    """Yield how often the host waits for the device within one scoring and its backward pass."""
    if device.type != "cuda":
        return
    for backend in backends(device):
        p = Problem.draw(device, torch.bfloat16, 600, 64, 9_000, tutored=300)
        scored(p, token_stats, {}, backend)
        torch.cuda.synchronize()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                scored(p, token_stats, {}, backend)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        yield {"what": f"{backend}", "waits": sum("synchroniz" in str(w.message) for w in caught), "right": True}


def _timed(work: Callable[[], None], device: torch.device, repeats: int) -> tuple[float, float]:
    """Return the median milliseconds of some runs, and the peak memory beyond what was there, in GB."""
    work()
    _wait(device)
    before = torch.cuda.memory_allocated() if device.type == "cuda" else 0
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() - before if device.type == "cuda" else 0
    return 1_000 * sorted(times)[len(times) // 2], peak / 1e9


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def bare(p: Problem) -> None:
    """The four products that nothing can avoid: both sides' logits, and the gradients of states and weight."""
    torch.mm(p.teacher_hidden, p.weight.t())
    logits = p.hidden @ p.weight.t()
    torch.mm(logits, p.weight)
    torch.mm(logits.t(), p.hidden)


def tutored(p: Problem, backend: Backend) -> None:
    """One tutored scoring of all tokens with its backward pass, log-probability and divergence differentiated."""
    hidden, weight = p.hidden.detach().requires_grad_(), p.weight.detach().requires_grad_()
    teacher = teacher_topk(p.teacher_hidden, p.weight, k=K, backend=backend)
    stats = token_stats(hidden, weight, p.targets, teacher=teacher, rows=p.rows, k=K, backend=backend)
    (stats.log_prob.sum() + stats.divergence.sum()).backward()


def liger(p: Problem) -> None:
    """Liger's fused JSD: a mean, without log-probabilities of the policy gradient."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss  # type: ignore[import-not-found]

    hidden, weight = p.hidden.detach().requires_grad_(), p.weight.detach().requires_grad_()
    LigerFusedLinearJSDLoss()(hidden, weight, p.teacher_hidden, p.weight, p.targets).backward()


def trl_chunked(p: Problem) -> None:
    """TRL's chunked log-probability and full JSD."""
    from trl.kernels import ChunkedLogProbFunction
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    hidden, weight = p.hidden.detach().requires_grad_(), p.weight.detach().requires_grad_()
    log_prob, *_ = ChunkedLogProbFunction.apply(hidden, weight, None, p.targets, 1.0, 8192, None, 1.0, ("entropy",))
    divergence, _ = ChunkedDivergenceFunction.apply(hidden, weight, None, p.teacher_hidden, p.weight, None, 0.5)
    (log_prob.sum() + divergence.sum()).backward()


def head(device: torch.device, sizes: list[tuple[int, int, int]], repeats: int) -> Iterator[dict[str, object]]:
    """Yield time and memory of the head and its peers over N, H and V; memory is beyond inputs and gradients."""
    peers: dict[str, Callable[[Problem], None]] = {"bare products": bare}
    for backend in backends(device):
        peers[f"ptdpo, {backend}"] = lambda p, b=backend: tutored(p, b)
    peers |= {"TRL chunked": trl_chunked} if importlib.util.find_spec("trl") else {}
    peers |= {"Liger JSD": liger} if importlib.util.find_spec("liger_kernel") else {}
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    for tokens, size, vocabulary in sizes:
        p, floor = Problem.draw(device, dtype, tokens, size, vocabulary), None
        gradients = dtype.itemsize * (p.hidden.numel() + p.weight.numel()) / 1e9
        for name, work in peers.items():
            row: dict[str, object] = {"what": name, "N": tokens, "H": size, "V": vocabulary}
            try:
                ms, gb = _timed(lambda w=work, q=p: w(q), device, repeats)
            except Exception as error:
                yield row | {"fault": f"{type(error).__name__}: {str(error)[:200]}", "right": "ptdpo" not in name}
                continue
            finally:
                _emptied(device)
            floor = ms if floor is None else floor
            spent = gb if name == "bare products" else gb - gradients
            yield row | {"ms": ms, "ratio": ms / floor, "GB beyond gradients": spent, "right": True}
        del p
        _emptied(device)


def phases(device: torch.device, repeats: int) -> Iterator[dict[str, object]]:
    """Yield where the time of the Triton head goes, at the largest size."""
    if device.type != "cuda" or "triton" not in backends(device):
        return
    p = Problem.draw(device, torch.bfloat16, 8_192, 4_096, 151_936)
    tutored(p, "triton")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        tutored(p, "triton")
        torch.cuda.synchronize()
    events = sorted(profile.key_averages(), key=lambda event: -event.device_time_total)
    for event in events[:18]:
        row = {"what": event.key[:70], "ms": event.device_time_total / 1e3, "calls": event.count, "right": True}
        yield row


def with_trainer(module: str, section: str, *arguments: object) -> Iterator[dict[str, object]]:
    """Yield from a section of a module beside this one, where what a trainer needs is installed."""
    missing = [name for name in ("trl", "datasets", "pydantic") if importlib.util.find_spec(name) is None]
    if missing:
        yield {"what": f"left out, not installed: {', '.join(missing)}", "right": True, "left_out": True}
        return
    yield from getattr(importlib.import_module(module), section)(*arguments)


def _emptied(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def main() -> int:
    """Run what is missing and print it; returns 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="default: results/gpu_CARD.json")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    parser.add_argument("--small", action="store_true", help="sizes for a CPU, to try the script itself")
    parser.add_argument(
        "--widths", nargs="+", choices=["small", "2B", "4B"], help="of the model (default: all that fit)"
    )
    parser.add_argument("--only", nargs="+", help="sections")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    card = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU"
    options.out = options.out or RESULTS / f"gpu_{card.lower().replace(' ', '_')}.json"
    sizes = [(8_192, 4_096, 151_936), (8_192, 2_048, 151_936), (2_048, 2_048, 151_936), (4_096, 4_096, 32_000)]
    options.widths = options.widths or (["small"] if options.small or device.type == "cpu" else ["small", "2B", "4B"])
    sizes, repeats = ([(64, 32, 1_000)], 1) if options.small else (sizes, 5)
    sections: dict[str, Callable[[], Iterator[dict[str, object]]]] = {
        "correctness": lambda: correctness(device),
        "recomputed": lambda: recomputed(device),
        "autocast": lambda: autocast(device),
        "synchronisations": lambda: synchronisations(device),
        "training": lambda: with_trainer("gpu_training", "training"),
        "scoring": lambda: with_trainer("gpu_widths", "scoring", device, options.widths),
        "steps": lambda: with_trainer("gpu_widths", "steps", device, options.widths),
        "head": lambda: head(device, sizes, repeats),
        "phases": lambda: phases(device, repeats),
    }
    found: dict[str, Any] = {}
    if options.out.exists() and not options.fresh:
        found = json.loads(options.out.read_text())
        if found.get("card") != card:
            found = {}
    found |= {"card": card, "torch": torch.__version__}
    print(f"{card}, torch {torch.__version__}", flush=True)
    wrong = 0
    for name, section in sections.items():
        if options.only and name not in options.only:
            continue
        if name not in found or not all(row["right"] and not row.get("left_out") for row in found[name]):
            rows: list[dict[str, object]] = []
            try:
                for row in section():
                    rows.append(row)
                    print(name, _line(row), flush=True)
            except Exception:
                rows.append({"what": "fault", "fault": traceback.format_exc()[-1_500:], "right": False})
                print(name, rows[-1]["fault"], flush=True)
            found[name] = rows
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(found, indent=1, default=str) + "\n")
        wrong += sum(not row["right"] for row in found[name])
    print(f"{wrong} wrong; written to {options.out}")
    return int(wrong > 0)


def _line(row: dict[str, object]) -> str:
    return ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
