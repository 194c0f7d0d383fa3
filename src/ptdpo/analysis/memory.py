"""What tutoring keeps of the teacher and holds at once: full vocabulary against Top-K, by formula and measured.

For n tutored tokens of a vocabulary of V, hidden states of H numbers of w bytes, the teacher leaves until the loss

- full vocabulary: 4 V n bytes, the O(BTV) of the paper's appendix;
- Top-K: (8 K + 8 + w H) n bytes: ids and log-probabilities, rest and normaliser, and the hidden states from which the
  teacher's probability at any id of the student is found;
- full vocabulary in parts (``tutoring_support=full``): (16 + w H) n bytes; logits are made anew, some rows at a time.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from ptdpo.algo.divergence import full_divergence
from ptdpo.algo.full_head import full_head_divergence
from ptdpo.algo.lm_head import TeacherTopK, teacher_topk, token_stats
from ptdpo.analysis.asked import OfRecipe
from ptdpo.analysis.result import Analysis, Cell, plot
from ptdpo.models.loading import model_config
from ptdpo.train.layout import layout_of

Way = Literal["full vocabulary", "full vocabulary in parts", "Top-K"]
SIZES = (256, 1024, 4096, 16384)
# Numbers of one [n, V] tensor, up to which is measured: the dense loss holds some twenty-five of them.
MEASURED = 20_000_000
MIB = 2**20
COLUMNS = ("way", "tokens", "kept, formula, MiB", "kept, measured, MiB", "peak, measured, MiB")


@dataclass(frozen=True, slots=True)
class HeadSize:
    """Sizes of a head: ``vocabulary`` V, ``hidden`` H, ``k`` K, and the type of its hidden states."""

    vocabulary: int
    hidden: int
    k: int
    dtype: torch.dtype

    def kept(self, way: Way, tokens: int) -> int:
        """Return the bytes that the teacher leaves by the formula of this module."""
        if way == "full vocabulary":
            return 4 * self.vocabulary * tokens
        k = 1 if way == "full vocabulary in parts" else min(self.k, self.vocabulary)
        return (8 * k + 8 + self.dtype.itemsize * self.hidden) * tokens


def memory(asked: OfRecipe) -> Analysis:
    """Return both counts for the recipe's model and K, up to the tokens that one generation may tutor.

    Peaks are those of divergence and log-probabilities, forward and backward, beyond inputs and their gradients, on
    the GPU if there is one; of sizes at which the dense one would be large, only formulas are given.

    Raises:
        ValueError: if the recipe does not tutor.
        OSError: if the model's configuration cannot be reached.
    """
    settings = asked.settings
    text = model_config(asked.recipe.model).get_text_config()
    dtype = torch.float32 if settings.bf16 is False else torch.bfloat16
    size = HeadSize(text.vocab_size, text.hidden_size, settings.tutoring_k, dtype)
    rollouts = layout_of(settings, asked.recipe.processes).rollouts // asked.recipe.processes
    most = rollouts * (settings.max_completion_length or 0)
    return counted(size, most, asked.say)


def counted(size: HeadSize, most: int, say: Callable[[str], None] = print) -> Analysis:
    """Return the analysis of a head, for sizes up to ``most`` tokens."""
    tokens = sorted({*(one for one in SIZES if one < most), most})
    rows: list[Sequence[Cell]] = []
    figure, axes = plot()
    for way in get_args(Way):
        kept = [size.kept(way, one) for one in tokens]
        peaks: list[tuple[int, float]] = []
        for one, formula in zip(tokens, kept, strict=True):
            held = peak = None
            if one * size.vocabulary <= MEASURED:
                say(f"{way}, {one} tokens")
                held, peak = measure(way, one, size)
                peaks.append((one, peak / MIB))
            rows.append([way, one, formula / MIB, _mib(held), _mib(peak)])
        (line,) = axes.plot(tokens, [one / MIB for one in kept], "o-", label=f"{way}: kept, formula")
        if peaks:
            axes.plot(*zip(*peaks, strict=True), "x:", color=line.get_color(), label=f"{way}: peak, measured")
    axes.set(xlabel="tutored tokens", ylabel="MiB", xscale="log", yscale="log")
    axes.set_xticks(tokens, [str(one) for one in tokens])
    axes.minorticks_off()
    # Beside the curves, of which it would hide some.
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    full, parts, top = (size.kept(way, most) / MIB for way in get_args(Way))
    sentence = (
        f"For the {most} tokens that one generation may tutor (V={size.vocabulary}, H={size.hidden}, K={size.k}) the "
        f"teacher leaves {full:.4g} MiB over the full vocabulary and {top:.4g} MiB as Top-K, {full / top:.3g} times "
        f"less; {parts:.4g} MiB of that are hidden states, from which the full vocabulary can be had too, in parts."
    )
    return Analysis("memory", sentence, COLUMNS, rows, figure)


def measure(way: Way, tokens: int, size: HeadSize) -> tuple[int, int]:
    """Return the bytes that the teacher leaves, and the peak of computing with them, on random states of a size."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    made = {"device": device, "dtype": size.dtype}
    hidden = torch.randn(tokens, size.hidden, **made).requires_grad_()
    states = hidden.detach() + 0.3 * torch.randn(tokens, size.hidden, **made)
    weight = (torch.randn(size.vocabulary, size.hidden, **made) * (3 / size.hidden**0.5)).requires_grad_()
    targets = torch.randint(size.vocabulary, (tokens,), device=device)
    left: list[int] = []

    def work() -> None:
        head = weight.detach()
        if way == "full vocabulary":
            teacher = (states @ head.T).float().log_softmax(-1)
            left.append(teacher.nbytes)
            logits = (hidden @ weight.T).float()
            chosen = logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1))
            (full_divergence(logits, teacher).sum() - chosen.sum()).backward()
            return
        k = size.k if way == "Top-K" else 1
        record = teacher_topk(states, head, k=k)
        left.append(_nbytes(record))
        if way == "Top-K":
            stats = token_stats(hidden, weight, targets, teacher=record, k=size.k)
            (stats.divergence.sum() - stats.log_prob.sum()).backward()
            return
        distance = full_head_divergence(hidden, weight, None, record, temperature=1.0, kind="jsd")
        (distance.sum() - token_stats(hidden, weight, targets).log_prob.sum()).backward()

    peak = peak_bytes(work, device)
    return left[0], max(0, peak - hidden.nbytes - weight.nbytes)


def peak_bytes(work: Callable[[], None], device: str) -> int:
    """Return the most bytes of tensors that were held at once during ``work``, beyond those that were there before."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    # Else the profiler says that it starts and stops.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        work()
    assert watched.profiler is not None
    assert watched.profiler.kineto_results is not None
    # torch's stub of the event lacks nbytes().
    every = cast("Sequence[Any]", watched.profiler.kineto_results.events())
    events = [event for event in every if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def _nbytes(record: TeacherTopK) -> int:
    parts: Sequence[Tensor] = (record.hidden, record.ids, record.log_probs, record.log_rest, record.log_normaliser)
    return sum(part.nbytes for part in parts)


def _mib(count: int | None) -> float | None:
    return None if count is None else count / MIB
