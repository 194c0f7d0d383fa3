"""``ptdpo solutions``: worked solutions for supervised fine-tuning."""

from pathlib import Path
from typing import Annotated

import typer

from ptdpo.commands import endpoint_options as options
from ptdpo.commands import reading_options as reading
from ptdpo.commands.option_ranges import check_options
from ptdpo.commands.outputs import Overwrite, refuse_inputs_of_job

solutions_app = typer.Typer(no_args_is_help=True, help="Make worked solutions for supervised fine-tuning.")


@solutions_app.callback()
def _group() -> None:
    """Make worked solutions for supervised fine-tuning."""


@solutions_app.command("build")
def build(
    problems: Annotated[Path, typer.Option(help="Problems file: JSONL, or parquet (file or folder).")],
    out: Annotated[Path, typer.Option(help="Solutions file (ShareGPT); a build that was stopped goes on in it.")],
    base_url: options.BaseUrl,
    model: options.Model,
    api_key_env: options.ApiKeyEnv = "OPENAI_API_KEY",
    fallback_base_url: options.FallbackBaseUrl = None,
    fallback_model: options.FallbackModel = None,
    fallback_api_key_env: options.FallbackApiKeyEnv = None,
    samples: Annotated[int, typer.Option(help="Responses per question; the shortest right one is kept.")] = 4,
    repair_samples: Annotated[int, typer.Option(help="More for unsolved questions, with the larger budget.")] = 4,
    repair_max_tokens: Annotated[int, typer.Option(help="The larger budget.")] = 32_768,
    reverse_samples: Annotated[int, typer.Option(help="More for those still unsolved, shown the answer.")] = 2,
    grading: options.GradingMode = "sound",
    instruction: Annotated[str | None, typer.Option(help="Instead of the standard thinking instruction.")] = None,
    limit: options.Limit = None,
    columns: reading.Columns = None,
    allow_unknown: reading.AllowUnknown = False,
    max_tokens: options.MaxTokens = 16_384,
    temperature: options.Temperature = 1.0,
    top_p: options.TopP = 1.0,
    extra: options.Extra = "",
    concurrency: options.Concurrency = 64,
    rpm: options.RequestsPerMinute = None,
    tpm: options.TokensPerMinute = None,
    timeout: options.Timeout = 1800.0,
    tries: options.Tries = 8,
    price_in: options.PriceIn = None,
    price_out: options.PriceOut = None,
    max_image_bytes: options.MaxImageBytes = 20_000_000,
    max_image_pixels: options.MaxImagePixels = 40_000_000,
    overwrite: Overwrite = False,
) -> None:
    """Sample solutions, keep the shortest whose boxed answer is right; then repair what is unsolved.

    The last pass shows the model the answer; what it writes is verified again, and dropped if it shows that. Answered
    requests are kept in OUT.requests.jsonl, unsolved problems listed in OUT.failed.jsonl; the exit code is then 1.

    Example: `ptdpo solutions build --problems train.jsonl --out solutions.jsonl --base-url http://localhost:8000/v1
    --model Qwen/Qwen3-VL-235B-A22B-Thinking`
    """
    given = locals()
    from ptdpo.chat.jobs import WorkFiles
    from ptdpo.commands.printing import out as console
    from ptdpo.data.prompts import THINKING_INSTRUCTION
    from ptdpo.rewards import check_mode
    from ptdpo.solutions.build import SolutionSettings, build_solutions

    check_options(given, SolutionSettings)
    options.check_service(given)
    settings = SolutionSettings(
        samples,
        options.sampling_from(max_tokens, temperature, top_p, extra),
        repair_samples,
        repair_max_tokens,
        reverse_samples,
        THINKING_INSTRUCTION if instruction is None else instruction,
        check_mode(grading, "--grading"),
        reading.reading_from(columns, allow_unknown),
        limit,
    )
    refuse_inputs_of_job(out, (problems,), overwrite=overwrite)
    report, stages = build_solutions(problems, out, options.service_from(given), settings)
    console.print(
        f"solved by sampling {stages['sample']}, by repair {stages['repair']}, in reverse {stages['reverse']}"
    )
    options.report_and_exit(report, out, WorkFiles.beside(out).failed)
