"""``ptdpo plan``."""

from pathlib import Path
from typing import Annotated

import typer

from ptdpo.commands.printing import out, print_table

_RATE = typer.Option(min=0, max=1, help="Share of rollouts that fail.")


def plan(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/qwen3_vl_4b_ptd_grpo.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, such as fsdp=true.")] = None,
    gpus: Annotated[
        str | None, typer.Option(help="Such as 8xH100-80GB, H200 or 8; as many as the recipe says.")
    ] = None,
    memory: Annotated[float | None, typer.Option(min=1, help="Memory of one GPU in GB; the card's.")] = None,
    prompt: Annotated[int | None, typer.Option(min=1, help="Tokens of the longest prompt; the recipe's limit.")] = None,
    response: Annotated[int | None, typer.Option(min=1, help="Tokens of the longest response; the limit.")] = None,
    image: Annotated[int, typer.Option(min=0, help="Tokens of a prompt that are images.")] = 1024,
    mean_prompt: Annotated[int | None, typer.Option(min=1, help="Tokens on average, for hours; the longest.")] = None,
    mean_response: Annotated[int | None, typer.Option(min=1, help="Tokens on average, for hours; the longest.")] = None,
    failed: Annotated[float, _RATE] = 0.5,
    problems: Annotated[int | None, typer.Option(min=1, help="Rows of the data; counted if they are here.")] = None,
    samplers: Annotated[int | None, typer.Option(min=1, help="GPUs of a vLLM server; as many as train.")] = None,
    assume: Annotated[list[str] | None, typer.Option(help="An efficiency, such as packed=0.3 or step_ms=8.")] = None,
    all_settings: Annotated[bool, typer.Option(help="List every setting, not only the recipe's and preset's.")] = False,
) -> None:
    """Say what a run needs of its GPUs, memory and hours, and what to change if it does not fit (exit code 1 then).

    No weights are loaded. Example: `ptdpo plan recipes/qwen3_vl_4b_ptd_grpo.yaml --gpus 8xH100-80GB`
    """
    from ptdpo.commands import planned
    from ptdpo.config import given_once, read_recipe
    from ptdpo.train.memory.advice import run_of
    from ptdpo.train.plan import optimiser_steps, resolved_settings
    from ptdpo.train.settings import PTDConfig
    from ptdpo.train.work.cards import DEFAULT_CARD, gpus_named
    from ptdpo.train.work.hours import efficiencies
    from ptdpo.train.work.phases import mean_lengths
    from ptdpo.train.work.problems import problems_of

    parsed, assumed = read_recipe(recipe, given_once(overrides or [])), efficiencies(assume or [])
    named = gpus_named(gpus or DEFAULT_CARD)
    count = named.count or parsed.processes
    run = run_of(parsed, count, memory or named.card.memory, prompt=prompt, response=response, image=image)
    settings = resolved_settings(parsed)
    assert isinstance(settings, PTDConfig)
    known = problems or problems_of(parsed)
    steps = None if known is None and settings.max_steps < 1 else optimiser_steps(settings, run.layout, known or 0)
    out.print(parsed.model, markup=False, highlight=False)
    counts = [] if known is None else [("problems", str(known))]
    counts += [] if steps is None else [("optimiser steps", str(steps))]
    layout = run.layout
    rows = [
        ("preset", parsed.preset), *counts, ("prompts per generation", str(layout.prompts)),
        ("prompts per optimiser step", str(layout.prompts_per_step)), *planned.method_rows(settings),
    ]  # fmt: skip
    print_table(("what", "value"), rows)
    planned.print_settings(parsed, settings, every=all_settings)
    if steps:
        planned.print_schedule(settings, steps)
    fits = planned.print_memory(run)
    lengths = mean_lengths(run.workload, prompt=mean_prompt, response=mean_response, failed=failed)
    planned.print_time(run, named.card, assumed, lengths, steps=steps, samplers=samplers)
    if not fits:
        raise typer.Exit(1)
