"""The tables of a plan: memory, work and hours, schedule, settings."""

import dataclasses
import math
from collections.abc import Sequence

from ptdpo.commands.printing import out, print_table
from ptdpo.config import Recipe
from ptdpo.presets import preset_settings
from ptdpo.train.memory.advice import advice_for, room_of_vllm
from ptdpo.train.memory.terms import Run, memory_plan
from ptdpo.train.setting_fields import SettingFields
from ptdpo.train.work.cards import Card
from ptdpo.train.work.hours import Efficiencies, RunTime, time_of
from ptdpo.train.work.phases import Lengths, tutored_share
from ptdpo.train.work.schedule import scheduled_steps

_GB = 1e9


def print_memory(run: Run) -> bool:
    """Print what each GPU holds in each phase; returns whether it fits, and says what to change if it does not."""
    planned, memory, count = memory_plan(run), run.memory / _GB, run.layout.processes
    load, layout = run.workload, run.layout
    where = "one GPU" if count == 1 else f"{run.sharding} on {count} GPUs"
    _say(f"{run.sizes.parameters / _GB:.2f} billion parameters, {where} of {memory:g} GB")
    _say(
        f"{layout.rows} rows per micro-batch, {run.rows} at once, {layout.accumulation} micro-batches per step; "
        f"prompts of {load.prompt} tokens ({load.image} of images), responses of {load.response}"
    )
    if (room := room_of_vllm(run)) is not None:
        _say(f"vLLM has room for {room[0]} tokens: {room[1]} of these rows at once")
    rows = [(term.name, *map(_gigabytes, (term.rollout, term.scoring, term.update))) for term in planned.terms]
    total = ("in all", *(f"{value / _GB:.1f}" for value in planned.phases))
    print_table(("GB on each GPU", "rollouts", "scoring", "update"), [*rows, total])
    if planned.fits:
        _say(f"fits: {planned.most / _GB:.1f} of {memory:g} GB")
        return True
    advice = advice_for(run)
    needed = f"does not fit: {planned.most / _GB:.1f} of {memory:g} GB"
    told = f"{' '.join(advice.words)}: {advice.plan.most / _GB:.1f} GB"
    if advice.plan.fits:
        _say(f"{needed}; fits with {told}")
    else:
        more = "more GPUs" if run.shards > 1 or "fsdp=true" in advice.words else "shorter rows"
        _say(f"{needed}, nor with {told}: take {more}, a smaller model, or an adapter (lora)")
    return False


def print_time(
    run: Run, card: Card, assumed: Efficiencies, lengths: Lengths, *, steps: int | None, samplers: int | None = None
) -> None:
    """Print tokens, operations and hours of a step and of a run, by phase, and what they rest on.

    Args:
        run: what is planned.
        card: on which.
        assumed: shares of its data sheet.
        lengths: what rows are on average.
        steps: optimiser steps of the run; ``None``: not known.
        samplers: GPUs of a vLLM server.
    """
    try:
        time = time_of(run, card, assumed, lengths, samplers=samplers)
    except ValueError as error:
        _say(f"no hours: {error}")
        return
    _say(_assumed(run, card, assumed, lengths, time))
    if math.isinf(time.step_seconds):
        _say("no hours: vLLM has no room for a single row; raise vllm_gpu_memory_utilization")
        return
    whole = [(each.phase.name, (each.phase.tokens, each.phase.flops, each.seconds)) for each in time.phases]
    totals = [sum(figures[place] for _, figures in whole) for place in range(3)]
    rows = []
    for name, (tokens, flops, seconds) in (*whole, ("in all", totals)):
        share = f"{seconds / totals[2]:.0%}" if totals[2] else ""
        cells = [_millions(tokens / time.steps), _peta(flops / time.steps), _minutes(seconds / time.steps), share]
        if steps is not None:
            many = steps / time.steps
            cells += [_millions(tokens * many), f"{flops * many / 1e18:.1f}", f"{seconds * many / 3600:.1f}"]
        rows.append((name, *cells))
    of_run = ("run: million tokens", "EFLOPs", "hours") if steps is not None else ()
    print_table(("phase", "step: million tokens", "PFLOPs", "minutes", "share", *of_run), rows)
    if steps is None:
        _say("how many steps the run has is not known before its data is here: say --problems")
    else:
        hours = totals[2] * steps / time.steps / 3600
        _say(f"{steps} steps: {hours:.1f} hours, {hours * run.layout.processes:.0f} GPU hours")


def _assumed(run: Run, card: Card, assumed: Efficiencies, lengths: Lengths, time: RunTime) -> str:
    load, layout = lengths.load, run.layout
    reached = ("packed rows", assumed.packed) if run.settings.shares_prefix else ("plain rows", assumed.plain)
    tutored = f", {tutored_share(run, lengths.failed):.0%} read by the teacher" if run.settings.tutors else ""
    upper = ", the limits: so this is the most" if load == run.workload else ""
    return (
        f"assumed: prompts of {load.prompt} tokens ({load.image} of an image), responses of {load.response}{upper}; "
        f"{lengths.failed:.0%} of rollouts fail{tutored}; of {card.name}'s {card.flops / 1e12:.0f} TFLOP/s "
        f"{reached[1]:.0%} ({reached[0]}) and {assumed.prompts:.0%} (prompts of rollouts), of its "
        f"{card.bandwidth / 1e12:.2f} TB/s {assumed.decoding:.0%} while {time.at_once} responses at once are written, "
        f"but {assumed.step_ms:g} ms for each token at least; {layout.rollouts} rollouts for {time.steps:g} steps. Not "
        "counted: grading, sending weights, waiting for the longest response, resampled and hinted rollouts"
    )


def print_schedule(settings: SettingFields, steps: int) -> None:
    """Print learning rate and lambda over the run."""
    rows = [(str(at.step), f"{at.learning_rate:.3g}", f"{at.tutoring:.3g}") for at in scheduled_steps(settings, steps)]
    if rows:
        print_table(("step", "learning rate", "lambda"), rows)
    else:
        _say(f"the learning rate follows a metric ({settings.lr_scheduler_type})")


def print_settings(recipe: Recipe, settings: SettingFields, *, every: bool = False) -> None:
    """Print the settings of a recipe and its preset, or all there are, and where each comes from."""
    preset, own = preset_settings(recipe.preset), SettingFields.__annotations__
    rows = []
    for field in dataclasses.fields(settings):
        name = field.name
        origin = (
            "recipe" if name in recipe.train else f"preset {recipe.preset}" if name in preset
            else "ptdpo" if name in own else "TRL"
        )  # fmt: skip
        if field.init and (every or origin not in ("ptdpo", "TRL")):
            rows.append((name, _shown(getattr(settings, name)), origin))
    print_table(("setting", "value", "from"), rows)


def method_rows(settings: SettingFields) -> Sequence[tuple[str, str]]:
    """Return what the method is, as cells."""
    rows = [
        ("learning rate", f"{settings.learning_rate:g}, {_shown(settings.lr_scheduler_type)}"),
        ("beta (reference KL)", f"{settings.beta:g}"),
        ("lambda (tutoring)", f"{settings.tutoring_weight:g}, {settings.tutoring_schedule}"),
    ]
    if settings.tutors:
        rows.append(("teacher", f"{settings.tutoring_teacher}, shown: {settings.tutoring_context}"))
        rows.append(("tutored", f"{settings.tutoring_select}, tau {settings.tutoring_threshold:g}"))
        kind = f"{settings.tutoring_divergence}, k {settings.tutoring_k}, {settings.tutoring_support}"
        rows.append(("divergence", kind if settings.tutoring_use == "loss" else f"used as {settings.tutoring_use}"))
    return rows


def _shown(value: object) -> str:
    return str(getattr(value, "value", value))


def _say(text: str) -> None:
    out.print(text, highlight=False, markup=False)


def _gigabytes(value: float) -> str:
    return f"{value / _GB:.2f}" if value else ""


def _millions(tokens: float) -> str:
    return f"{tokens / 1e6:.2f}" if tokens else ""


def _peta(flops: float) -> str:
    return f"{flops / 1e15:.1f}" if flops else ""


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.2f}" if seconds else ""
