"""``ptdpo evaluate``."""

from pathlib import Path
from typing import Annotated

import typer

from ptdpo.commands.printing import print_table


def evaluate(
    model: Annotated[str, typer.Argument(help="Folder or hub id of the model.")],
    problems: Annotated[Path, typer.Argument(help="A problems file (JSONL).")],
    responses: Annotated[Path, typer.Option("--out", help="Responses file to write.")],
    samples: Annotated[int, typer.Option(help="Responses per question.")] = 1,
    max_new_tokens: Annotated[int, typer.Option(help="Longest response.")] = 4096,
    temperature: Annotated[float, typer.Option(help="Sampling temperature.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Nucleus.")] = 1.0,
    instruction: Annotated[str | None, typer.Option(help="Instead of the standard thinking instruction.")] = None,
    batch_size: Annotated[int, typer.Option(help="Questions per batch.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the sampling stream.")] = 0,
) -> None:
    """Answer questions with a model in this process and grade the responses.

    Example: `ptdpo evaluate runs/easy_vqa runs/easy_vqa_test.jsonl --out runs/responses.jsonl --max-new-tokens 40`
    """
    from ptdpo.evaluate.run import evaluate_file
    from ptdpo.evaluate.scoring import SamplingSettings

    settings = SamplingSettings(max_new_tokens, temperature, top_p, samples, seed, batch_size)
    summary = evaluate_file(model, problems, responses, settings, instruction)
    print_table(("", "value"), summary.rows())
