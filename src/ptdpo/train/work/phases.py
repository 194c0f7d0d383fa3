"""Tokens and floating-point operations of one generation of rollouts: rollouts, scoring, teacher, update.

Assumed is that all rows are as long as the workload says, that each prompt has one image, and that the share of failed
rollouts is what it is said to be.
"""

from dataclasses import dataclass

from ptdpo.models.packed_attention import LEAST_BLOCK, MOST_BLOCKS
from ptdpo.train.memory.terms import Run, Workload
from ptdpo.train.work.model import ModelWork, Products, work_of


@dataclass(frozen=True, slots=True)
class Lengths:
    """What rows are on average.

    Attributes:
        load: tokens of prompts, responses and images.
        shown: tokens that the teacher's prompt has more than the student's.
        failed: share of rollouts that fail.
    """

    load: Workload
    shown: int = 200
    failed: float = 0.5


def mean_lengths(
    longest: Workload, *, prompt: int | None = None, response: int | None = None, failed: float = 0.5
) -> Lengths:
    """Return what rows are on average; lengths that are ``None`` are the longest.

    Raises:
        ValueError: if an average is longer than the longest.
    """
    for name, mean, most in (("prompt", prompt, longest.prompt), ("response", response, longest.response)):
        if mean is not None and mean > most:
            raise ValueError(f"--mean-{name} {mean}: the longest has {most} tokens")
    mean_prompt = prompt or longest.prompt
    load = Workload(mean_prompt, response or longest.response, min(longest.image, mean_prompt))
    return Lengths(load, failed=failed)


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of a generation and the optimiser steps that it serves, over all GPUs.

    Attributes:
        name: rollout (prompts), rollout (responses), scoring, teacher or update.
        tokens: that the language model reads or writes; a prompt that is shared counts once.
        flops: operations.
    """

    name: str
    tokens: float
    flops: float


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one forward pass, all alike.

    Attributes:
        prompts: prompts that are read.
        rows: responses.
        prompt: tokens of a prompt.
        response: tokens of a response.
        image: of a prompt, tokens of its image.
    """

    prompts: float
    rows: float
    prompt: int
    response: int
    image: int

    @property
    def tokens(self) -> float:
        """Return the tokens that are read."""
        return self.prompts * self.prompt + self.rows * self.response


def pairs_of(rows: Rows, *, shared: bool, causal: bool) -> float:
    """Return the queries and keys that attention compares.

    Args:
        rows: what is read.
        shared: from packed rows, in which each response sees its prompt.
        causal: kernels skip what the causal mask hides, as FlashAttention does in packed rows; others compute it, and
            skip of a packed row's responses what lies beyond blocks of queries.
    """
    p, t = rows.prompt, rows.response
    if not shared:
        whole = rows.rows * (p + t) ** 2
        return whole / 2 if causal else whole
    if causal:
        return rows.prompts * p * p / 2 + rows.rows * (t * p + t * t / 2)
    blocks = min(max(t // LEAST_BLOCK, 1), MOST_BLOCKS)
    return rows.prompts * p * p + rows.rows * (t * p + t * t * (blocks + 1) / (2 * blocks))


def products_of(work: ModelWork, rows: Rows, *, shared: bool, causal: bool) -> Products:
    """Return the operations of a forward pass without the head, images included."""
    read = work.reading(rows.tokens, pairs_of(rows, shared=shared, causal=causal))
    return read + work.seeing(rows.image, rows.prompts) if rows.image else read


def phases_of(run: Run, lengths: Lengths, *, causal: bool | None = None) -> tuple[Phase, ...]:
    """Return the phases of one generation and of the optimiser steps on it, see ``Phase``.

    Args:
        run: what is planned.
        lengths: what rows are on average.
        causal: see ``pairs_of``; ``None``: where a prefix is shared.
    """
    work, settings, load, layout = work_of(run.sizes, run.rank), run.settings, lengths.load, run.layout
    shared = settings.shares_prefix
    causal = shared if causal is None else causal
    rollouts, groups = layout.rollouts, layout.prompts
    read = _rows(rollouts, groups if shared else rollouts, load)
    forward = products_of(work, read, shared=shared, causal=causal)
    targets = rollouts * load.response
    scored = forward.forward + work.scoring(targets)
    passes = _scorings(run)
    return (
        _prompts(work, run, load, causal=causal or settings.use_vllm),
        _responses(work, rollouts, load),
        Phase("scoring", passes * read.tokens, passes * scored),
        _teacher(work, run, lengths, shared=shared, causal=causal),
        _update(work, run, read, forward, targets),
    )


def _rows(rollouts: float, prompts: float, load: Workload) -> Rows:
    return Rows(prompts, rollouts, load.prompt, load.response, load.image)


def _prompts(work: ModelWork, run: Run, load: Workload, *, causal: bool) -> Phase:
    """vLLM reads the prompt of a group once, and so does ``generate`` where a prefix is shared."""
    once = run.settings.use_vllm or run.settings.shares_prefix
    count = run.layout.prompts if once else run.layout.rollouts
    rows = Rows(count, count, load.prompt, 0, load.image)
    return Phase("rollout (prompts)", rows.tokens, products_of(work, rows, shared=False, causal=causal).forward)


def _responses(work: ModelWork, rollouts: int, load: Workload) -> Phase:
    tokens = float(rollouts * load.response)
    pairs = rollouts * (load.response * load.prompt + load.response**2 / 2)
    return Phase("rollout (responses)", tokens, work.reading(tokens, pairs).forward + work.scoring(tokens))


def _scorings(run: Run) -> int:
    """Return how often rollouts are scored before they are trained on, by the policy that drew them and the reference.

    TRL scores the policy where rollouts are older than the weights, and for vLLM's correction.
    """
    settings, layout = run.settings, run.layout
    micro_batches = layout.micro_batches * layout.iterations
    older = layout.accumulation % micro_batches != 0
    corrected = settings.use_vllm and settings.vllm_importance_sampling_correction
    masked = settings.perceives and settings.perception_masked == "rollout"
    return (older or corrected) + (settings.beta != 0) + masked


def tutored_share(run: Run, failed: float) -> float:
    """Return the share of rollouts that the teacher reads; of selections that depend on groups, the most."""
    settings = run.settings
    if not settings.tutors:
        return 0.0
    shares = {"failed": failed, "failed_with_sibling": failed, "succeeded": 1 - failed}
    return shares.get(settings.tutoring_select, 1.0)


def _teacher(work: ModelWork, run: Run, lengths: Lengths, *, shared: bool, causal: bool) -> Phase:
    load, share = lengths.load, tutored_share(run, lengths.failed)
    if not share:
        return Phase("teacher", 0.0, 0.0)
    if run.taught is not None:
        work = work_of(run.taught)
    rollouts = share * run.layout.rollouts
    # Of G independent rollouts all escape the teacher with probability (1 - share)^G.
    groups = run.layout.prompts * (1 - (1 - share) ** run.layout.group)
    rows = Rows(groups if shared else rollouts, rollouts, load.prompt + lengths.shown, load.response, load.image)
    read = products_of(work, rows, shared=shared, causal=causal)
    once = read.forward + work.scoring(rollouts * load.response)
    times = _readings(run)
    return Phase("teacher", times * rows.tokens, times * once)


def _readings(run: Run) -> int:
    """Return how often the teacher reads a rollout: under other contexts too, where it is contrasted with them."""
    settings = run.settings
    contrasted = {"question": 1, "failed_siblings": settings.tutoring_contrast_siblings}
    return 1 + contrasted.get(settings.tutoring_contrast, 0)


def _update(work: ModelWork, run: Run, read: Rows, forward: Products, targets: float) -> Phase:
    """A forward pass, its gradients, and what checkpointing repeats; the head's backward pass repeats its logits."""
    settings = run.settings
    blocks = forward.both_ways(work.trained, repeated=run.checkpointed)
    # An adapter leaves the head alone; a dense head keeps its logits.
    head = work.scoring(targets) * (2 + (not run.rank) + (settings.head != "dense"))
    passes = 2 if settings.perceives and settings.perception_masked == "current" else 1
    iterations = run.layout.iterations
    return Phase("update", iterations * passes * read.tokens, iterations * passes * (blocks + head))
