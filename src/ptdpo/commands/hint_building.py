"""``ptdpo hints build | recoverability | usefulness``: the commands that ask a model."""

from pathlib import Path
from typing import Annotated

import typer

from ptdpo.commands import endpoint_options as options
from ptdpo.commands import reading_options as reading
from ptdpo.commands.option_ranges import check_options
from ptdpo.commands.outputs import Overwrite, output_file, refuse_inputs_of_job
from ptdpo.folders import write_json

Problems = Annotated[Path, typer.Option(help="Problems file: JSONL, or parquet (file or folder).")]


def build(
    problems: Problems,
    out: Annotated[Path, typer.Option(help="Hints file; a build that was stopped goes on in it.")],
    base_url: options.BaseUrl,
    model: options.Model,
    api_key_env: options.ApiKeyEnv = "OPENAI_API_KEY",
    fallback_base_url: options.FallbackBaseUrl = None,
    fallback_model: options.FallbackModel = None,
    fallback_api_key_env: options.FallbackApiKeyEnv = None,
    system_prompt: Annotated[Path | None, typer.Option(help="Your own instructions in place of ours.")] = None,
    attempts: Annotated[int, typer.Option(help="Hints asked of the model before the fallback, or failure.")] = 3,
    fallback_attempts: Annotated[int, typer.Option(help="Hints asked of the fallback.")] = 2,
    apply_review: Annotated[
        Path | None, typer.Option(help="List from the review page: accepted, rejected ids.")
    ] = None,
    recheck: Annotated[bool, typer.Option(help="Check hints that are there, replace those rejected.")] = False,
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
    timeout: options.Timeout = 600.0,
    tries: options.Tries = 8,
    price_in: options.PriceIn = None,
    price_out: options.PriceOut = None,
    max_image_bytes: options.MaxImageBytes = 20_000_000,
    max_image_pixels: options.MaxImagePixels = 40_000_000,
    overwrite: Overwrite = False,
) -> None:
    """Ask a model for an answer-free hint for every problem; each is checked, and asked for again if rejected.

    Answered requests are kept in OUT.requests.jsonl: a run that was stopped or killed goes on where it was, and pays
    for nothing twice. Problems without a hint are listed with the reason in OUT.failed.jsonl; the exit code is then 1.

    Example: `ptdpo hints build --problems train.jsonl --out hints.jsonl --base-url http://localhost:8000/v1 --model
    Qwen/Qwen3-VL-235B-A22B-Thinking`
    """
    given = locals()
    from ptdpo.chat.jobs import WorkFiles
    from ptdpo.hints.build import BuildSettings, build_hints
    from ptdpo.hints.prompt import system_prompt as read_prompt
    from ptdpo.hints.quality import check_hint

    check_options(given, BuildSettings)
    options.check_service(given)
    refuse_inputs_of_job(out, (problems, system_prompt, apply_review), overwrite=overwrite)
    sampling = options.sampling_from(max_tokens, temperature, top_p, extra)
    how = reading.reading_from(columns, allow_unknown)
    prompt = read_prompt(system_prompt)
    settings = BuildSettings(prompt, sampling, attempts, fallback_attempts, recheck, how, limit)
    service = options.service_from(given)
    report = build_hints(problems, out, service, settings, check=check_hint, review=apply_review)
    options.report_and_exit(report, out, WorkFiles.beside(out).failed)


def recoverability(
    hints: Annotated[Path, typer.Argument(help="A hints file (JSONL).")],
    problems: Problems,
    out: Annotated[Path, typer.Option(help="One line per hint: guesses, chance, p-value, verdict.")],
    base_url: options.BaseUrl,
    model: options.Model,
    api_key_env: options.ApiKeyEnv = "OPENAI_API_KEY",
    guesses: Annotated[int, typer.Option(help="Guesses per hint.")] = 8,
    alpha: Annotated[float, typer.Option(help="Share of harmless hints that may be rejected.")] = 0.01,
    columns: reading.Columns = None,
    allow_unknown: reading.AllowUnknown = False,
    ignore_question: reading.IgnoreQuestion = False,
    review_out: Annotated[Path | None, typer.Option(help="Write the rejected ids, for `build --apply-review`.")] = None,
    max_tokens: options.MaxTokens = 2048,
    temperature: options.Temperature = 1.0,
    top_p: options.TopP = 1.0,
    extra: options.Extra = "",
    concurrency: options.Concurrency = 64,
    rpm: options.RequestsPerMinute = None,
    tpm: options.TokensPerMinute = None,
    timeout: options.Timeout = 600.0,
    tries: options.Tries = 8,
    price_in: options.PriceIn = None,
    price_out: options.PriceOut = None,
    overwrite: Overwrite = False,
) -> None:
    """Guess every answer from its hint alone, without question and image; reject hints that beat chance.

    Example: `ptdpo hints recoverability hints.jsonl --problems train.jsonl --out recover.jsonl --base-url
    http://localhost:8000/v1 --model Qwen/Qwen3-32B --review-out rejected.json`
    """
    given = locals()
    from ptdpo.chat.jobs import WorkFiles
    from ptdpo.commands.printing import out as console
    from ptdpo.hints.recoverability import RecoverySettings, measure_recoverability

    check_options(given, RecoverySettings)
    options.check_service(given)
    sampling = options.sampling_from(max_tokens, temperature, top_p, extra)
    how = reading.reading_from(columns, allow_unknown)
    settings = RecoverySettings(guesses, alpha, sampling, how, ignore_question)
    inputs = (hints, problems)
    refuse_inputs_of_job(out, inputs, overwrite=overwrite)
    command = "hints recoverability"
    with (
        output_file("--out", out, command, inputs=inputs, overwrite=overwrite),
        output_file("--review-out", review_out, command, inputs=inputs, overwrite=overwrite),
    ):
        judged, report = measure_recoverability(problems, hints, out, options.service_from(given), settings)
        rejected = [one.id for one in judged if one.rejected]
        console.print(f"{len(rejected)} of {len(judged)} hints give their answer away more often than chance")
        _write_rejected(review_out, rejected, "the answer can be guessed from this hint without question and image")
    options.report_and_exit(report, out, WorkFiles.beside(out).failed)


def usefulness(
    hints: Annotated[Path, typer.Argument(help="A hints file (JSONL).")],
    problems: Problems,
    out: Annotated[Path, typer.Option(help="One line per hint: right responses without and with it, gain, flag.")],
    model: Annotated[str, typer.Option(help="As the server calls it; without --base-url a folder or hub id.")],
    base_url: options.BaseUrl = "",
    api_key_env: options.ApiKeyEnv = "OPENAI_API_KEY",
    draws: Annotated[int, typer.Option(help="Responses without, and with, each hint.")] = 8,
    grading: options.GradingMode = "sound",
    columns: reading.Columns = None,
    allow_unknown: reading.AllowUnknown = False,
    ignore_question: reading.IgnoreQuestion = False,
    review_out: Annotated[
        Path | None, typer.Option(help="Write ids of useless hints, for `build --apply-review`.")
    ] = None,
    max_tokens: options.MaxTokens = 4096,
    temperature: options.Temperature = 1.0,
    top_p: options.TopP = 1.0,
    extra: options.Extra = "",
    concurrency: options.Concurrency = 64,
    rpm: options.RequestsPerMinute = None,
    tpm: options.TokensPerMinute = None,
    timeout: options.Timeout = 600.0,
    tries: options.Tries = 8,
    price_in: options.PriceIn = None,
    price_out: options.PriceOut = None,
    max_image_bytes: options.MaxImageBytes = 20_000_000,
    max_image_pixels: options.MaxImagePixels = 40_000_000,
    batch_size: Annotated[int, typer.Option(help="Questions per batch, in this process.")] = 64,
    overwrite: Overwrite = False,
) -> None:
    """Compare pass@n of a model with each hint and without it; flag hints that do not help.

    Without `--base-url` the model is run in this process; the folder of an adapter is one too.

    Example: `ptdpo hints usefulness hints.jsonl --problems train.jsonl --out useful.jsonl --base-url
    http://localhost:8000/v1 --model Qwen/Qwen3-VL-4B-Thinking`
    """
    given = locals()
    from ptdpo.chat.jobs import WorkFiles
    from ptdpo.commands.printing import out as console
    from ptdpo.commands.printing import print_table
    from ptdpo.evaluate.settings import SamplingSettings
    from ptdpo.hints.usefulness import UsefulnessSettings, measure_usefulness
    from ptdpo.rewards import check_mode

    options.check_service(given)
    check_options({"draws": draws, "batch_size": batch_size}, UsefulnessSettings, SamplingSettings)
    sampling = options.sampling_from(max_tokens, temperature, top_p, extra)
    settings = UsefulnessSettings(
        draws,
        sampling,
        grading=check_mode(grading, "--grading"),
        reading=reading.reading_from(columns, allow_unknown),
        ignore_question=ignore_question,
    )
    report = None
    inputs = (hints, problems)
    refuse_inputs_of_job(out, inputs, overwrite=overwrite)
    command = "hints usefulness"
    with (
        output_file("--out", out, command, inputs=inputs, overwrite=overwrite),
        output_file("--review-out", review_out, command, inputs=inputs, overwrite=overwrite),
    ):
        if base_url:
            result, report = measure_usefulness(problems, hints, out, options.service_from(given), settings)
        else:
            from ptdpo.evaluate.usefulness import measure_usefulness_here

            result = measure_usefulness_here(model, problems, hints, out, settings, batch_size=batch_size)
        useless = result.flagged().get("does not help", [])
        _write_rejected(review_out, useless, "readers do no better with this hint than without it")
    print_table(("", "without", "with hint"), result.rows())
    gain = result.gain
    console.print(
        f"gain in pass@1 {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] (95 % over problems)", markup=False
    )
    for flag, ids in result.flagged().items():
        console.print(f"{len(ids)} hints: {flag}")
    if report is not None:
        options.report_and_exit(report, out, WorkFiles.beside(out).failed)


def _write_rejected(path: Path | None, ids: list[str], reason: str) -> None:
    if path is not None:
        lists = {"accepted": [], "rejected": ids, "reasons": dict.fromkeys(ids, reason)}
        write_json(path, lists)
