"""Seconds of the phases of a run on a card, with efficiencies that are assumed and said."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ptdpo.train.memory.advice import kv_bytes, room_of_vllm
from ptdpo.train.memory.terms import Run
from ptdpo.train.work.cards import Card
from ptdpo.train.work.model import work_of
from ptdpo.train.work.phases import Lengths, Phase, phases_of

_HALF = 2


@dataclass(frozen=True, slots=True)
class Efficiencies:
    """What share of a card's data sheet is reached.

    Attributes:
        packed: of its operations, where rows are read or trained on that share their prompts.
        plain: likewise in the plain layout.
        prompts: of its operations, where prompts are read to be answered.
        decoding: of its bandwidth, where responses are written token by token.
        step_ms: the least milliseconds that one token of all responses takes, whatever is read: launches, sampling.

    The first two are what steps of Qwen3-VL-2B on an H100 show (docs/engines.md); the others are
    assumed, not measured.
    """

    packed: float = 0.25
    plain: float = 0.40
    prompts: float = 0.40
    decoding: float = 0.60
    step_ms: float = 6.0


def efficiencies(changes: Sequence[str]) -> Efficiencies:
    """Return the efficiencies with changes such as ``packed=0.3``.

    Raises:
        ValueError: on an unknown name, or a share that is not above 0 and at most 1.
    """
    names = [field.name for field in dataclasses.fields(Efficiencies)]
    given: dict[str, float] = {}
    for change in changes:
        name, _, text = change.partition("=")
        if name not in names:
            raise ValueError(f"--assume {change}: names are {', '.join(names)}, such as packed=0.3")
        try:
            given[name] = float(text)
        except ValueError:
            raise ValueError(f"--assume {change}: {text!r} is no number") from None
        most = math.inf if name == "step_ms" else 1.0
        if not 0 < given[name] <= most or math.isinf(given[name]):
            raise ValueError(f"--assume {change}: must be above 0{'' if name == 'step_ms' else ' and at most 1'}")
    return Efficiencies(**given)


@dataclass(frozen=True, slots=True)
class TimedPhase:
    """A phase and the seconds that it takes, for one generation."""

    phase: Phase
    seconds: float


@dataclass(frozen=True, slots=True)
class RunTime:
    """What a run computes and takes.

    Attributes:
        phases: of one generation and the optimiser steps on it.
        steps: optimiser steps of a generation; the last of a run may have fewer.
        at_once: responses that are written at once on a process; 0: vLLM has no room for any.
    """

    phases: tuple[TimedPhase, ...]
    steps: float
    at_once: int

    @property
    def step_seconds(self) -> float:
        """Return the seconds of an optimiser step with its share of the rollouts."""
        return sum(each.seconds for each in self.phases) / self.steps

    @property
    def step_flops(self) -> float:
        """Return the operations of an optimiser step with its share of the rollouts, over all GPUs."""
        return sum(each.phase.flops for each in self.phases) / self.steps


def time_of(run: Run, card: Card, assumed: Efficiencies, lengths: Lengths, *, samplers: int | None = None) -> RunTime:
    """Return the time of a run.

    Args:
        run: what is planned.
        card: on which.
        assumed: shares of the card's data sheet.
        lengths: what rows are on average.
        samplers: GPUs of a vLLM server; ``None``: as many as train.
    """
    phases = phases_of(run, lengths)
    reached = assumed.packed if run.settings.shares_prefix else assumed.plain
    training = run.layout.processes * card.flops * reached
    serves = run.settings.use_vllm and run.settings.vllm_mode == "server"
    sampling = (samplers or run.layout.processes) if serves else run.layout.processes
    at_once = _responses_at_once(run, lengths, sampling)
    seconds = {
        "rollout (prompts)": phases[0].flops / (sampling * card.flops * assumed.prompts),
        "rollout (responses)": _decoding(run, lengths, card, assumed, sampling, at_once),
        "scoring": phases[2].flops / training,
        "teacher": phases[3].flops / training,
        "update": phases[4].flops / training,
    }
    steps = run.layout.micro_batches * run.layout.iterations / run.layout.accumulation
    return RunTime(tuple(TimedPhase(phase, seconds[phase.name]) for phase in phases), steps, at_once)


def _responses_at_once(run: Run, lengths: Lengths, sampling: int) -> int:
    """Return how many responses one engine writes at once: all of its own, or as many as vLLM has room for."""
    own = math.ceil(run.layout.rollouts * _parallel(run) / sampling)
    room = room_of_vllm(run)
    if room is None:
        return own
    # The responses to a prompt share its keys and values.
    each = lengths.load.prompt / run.layout.group + lengths.load.response
    return min(own, int(room[0] / each))


def _parallel(run: Run) -> int:
    return run.settings.vllm_tensor_parallel_size if run.settings.use_vllm else 1


def _decoding(run: Run, lengths: Lengths, card: Card, assumed: Efficiencies, sampling: int, at_once: int) -> float:
    """Return the seconds in which all responses are written.

    Each step writes one token of every response that is under way, reads all weights once, and the keys and values of
    each; how many steps there are is what all tokens need of that many at once.
    """
    if not at_once:
        return math.inf
    load, parallel = lengths.load, _parallel(run)
    work = work_of(run.sizes)
    context = load.prompt + load.response / 2
    read = (_HALF * (work.token + work.head) + at_once * context * kv_bytes(run.sizes.text)) / parallel
    flops = at_once * (work.reading(1, context).forward + work.scoring(1)) / parallel
    step = max(read / (card.bandwidth * assumed.decoding), flops / (card.flops * assumed.prompts))
    # The next response begins when one ends.
    turns = max(1.0, run.layout.rollouts * parallel / sampling / at_once)
    return turns * load.response * max(step, assumed.step_ms / 1000)
