"""``ptdpo plan``."""

from pathlib import Path
from typing import Annotated

import typer

from ptdpo.commands.printing import out, print_table

_GB = 1e9


def plan(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/qwen3_vl_4b_ptd_grpo.yaml.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, such as fsdp=true.")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs that train; as many as the recipe says.")] = None,
    memory: Annotated[float, typer.Option(min=1, help="Memory of one GPU in GB (10^9 bytes).")] = 80,
    prompt: Annotated[int | None, typer.Option(min=1, help="Tokens of a prompt; the recipe's limit.")] = None,
    response: Annotated[int | None, typer.Option(min=1, help="Tokens of a response; the recipe's limit.")] = None,
    image: Annotated[int, typer.Option(min=0, help="Tokens of a prompt that are images.")] = 1024,
) -> None:
    """Say what memory each GPU needs, whether it fits, and what to change if it does not (exit code 1 then).

    No weights and no data are loaded. Example: `ptdpo plan recipes/qwen3_vl_4b_ptd_grpo.yaml --gpus 8 --memory 80`
    """
    from ptdpo.config import given_once, read_recipe
    from ptdpo.train.memory.advice import advice_for, room_of_vllm, run_of
    from ptdpo.train.memory.terms import memory_plan

    parsed = read_recipe(recipe, given_once(overrides or []))
    count = gpus or parsed.processes
    run = run_of(parsed, count, memory, prompt=prompt, response=response, image=image)
    planned = memory_plan(run)
    load, layout = run.workload, run.layout
    facts = [
        f"{parsed.model}: {run.sizes.parameters / _GB:.2f} billion parameters, {_where(run.sharding, count)} of "
        f"{memory:g} GB",
        f"{layout.rows} rows per micro-batch, {run.rows} at once, {layout.accumulation} micro-batches per step; "
        f"prompts of {load.prompt} tokens ({load.image} of images), responses of {load.response}",
    ]
    if (room := room_of_vllm(run)) is not None:
        facts.append(f"vLLM has room for {room[0]} tokens: {room[1]} of these rows at once")
    for fact in facts:
        out.print(fact, highlight=False)
    rows = [(term.name, *map(_gigabytes, (term.rollout, term.scoring, term.update))) for term in planned.terms]
    total = ("in all", *(f"{value / _GB:.1f}" for value in planned.phases))
    print_table(("GB on each GPU", "rollouts", "scoring", "update"), [*rows, total])
    if planned.fits:
        out.print(f"fits: {planned.most / _GB:.1f} of {memory:g} GB", highlight=False)
        return
    advice = advice_for(run)
    needed = f"does not fit: {planned.most / _GB:.1f} of {memory:g} GB"
    told = f"{' '.join(advice.words)}: {advice.plan.most / _GB:.1f} GB"
    if advice.plan.fits:
        out.print(f"{needed}; fits with {told}", highlight=False)
    else:
        more = "more GPUs" if run.shards > 1 or "fsdp=true" in advice.words else "shorter rows"
        out.print(f"{needed}, nor with {told}: take {more}, a smaller model, or an adapter (lora)", highlight=False)
    raise typer.Exit(1)


def _where(sharding: str, gpus: int) -> str:
    return "one GPU" if gpus == 1 else f"{sharding} on {gpus} GPUs"


def _gigabytes(value: float) -> str:
    return f"{value / _GB:.2f}" if value else ""
