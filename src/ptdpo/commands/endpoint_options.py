"""Options shared by the commands that ask a model over the network."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptdpo.commands.option_ranges import check_options

if TYPE_CHECKING:
    from ptdpo.chat.jobs import JobReport, Service
    from ptdpo.chat.requests import Sampling

_SERVER, _SPEED, _IMAGES = "Server", "Speed and cost", "Images"

BaseUrl = Annotated[
    str, typer.Option(help="OpenAI-compatible server, such as http://localhost:8000/v1.", rich_help_panel=_SERVER)
]
Model = Annotated[str, typer.Option(help="As the server calls it.", rich_help_panel=_SERVER)]
ApiKeyEnv = Annotated[str, typer.Option(help="Environment variable that holds the API key.", rich_help_panel=_SERVER)]
FallbackBaseUrl = Annotated[
    str | None, typer.Option(help="Server of the fallback model; by default the same.", rich_help_panel=_SERVER)
]
FallbackModel = Annotated[str | None, typer.Option(help="Asked when the first model fails.", rich_help_panel=_SERVER)]
FallbackApiKeyEnv = Annotated[
    str | None, typer.Option(help="Variable with its key; by default the same.", rich_help_panel=_SERVER)
]
GradingMode = Annotated[str, typer.Option("--grading", help="sound, or mathruler for parity with published runs.")]
Limit = Annotated[int | None, typer.Option(help="Only so many rows, the first of the file.")]
MaxTokens = Annotated[int, typer.Option(help="Length at which a response is cut.", rich_help_panel=_SERVER)]
Temperature = Annotated[float, typer.Option(help="Sampling temperature; below 0: not sent.", rich_help_panel=_SERVER)]
TopP = Annotated[float, typer.Option(help="Nucleus; below 0: not sent.", rich_help_panel=_SERVER)]
Extra = Annotated[str, typer.Option("--extra", help="More fields of the request as JSON.", rich_help_panel=_SERVER)]
Concurrency = Annotated[int, typer.Option(help="Requests in flight at most.", rich_help_panel=_SPEED)]
RequestsPerMinute = Annotated[
    float | None, typer.Option("--rpm", help="Requests per minute at most.", rich_help_panel=_SPEED)
]
TokensPerMinute = Annotated[
    float | None, typer.Option("--tpm", help="Tokens per minute at most.", rich_help_panel=_SPEED)
]
Timeout = Annotated[float, typer.Option(help="Seconds for one attempt at a request.", rich_help_panel=_SPEED)]
Tries = Annotated[int, typer.Option(help="Attempts at a request that meets passing trouble.", rich_help_panel=_SPEED)]
PriceIn = Annotated[float | None, typer.Option(help="Of a million prompt tokens.", rich_help_panel=_SPEED)]
PriceOut = Annotated[float | None, typer.Option(help="Of a million response tokens.", rich_help_panel=_SPEED)]
MaxImageBytes = Annotated[int, typer.Option(help="Larger files are encoded anew.", rich_help_panel=_IMAGES)]
MaxImagePixels = Annotated[int, typer.Option(help="Larger images are scaled down.", rich_help_panel=_IMAGES)]


def check_service(given: Mapping[str, Any]) -> None:
    """Refuse options of a request and of how it is sent that are out of range.

    Args:
        given: a command's ``locals()``.

    Raises:
        ValueError: naming the option, its value and what it must be.
    """
    from ptdpo.chat.client import ClientSettings
    from ptdpo.chat.images import ImageLimits
    from ptdpo.chat.jobs import Service
    from ptdpo.chat.requests import Sampling

    sent = {name: None if name in ("temperature", "top_p") and value < 0 else value for name, value in given.items()}
    check_options(sent, Sampling, Service)
    check_options(sent, ClientSettings, requests_per_minute="rpm", tokens_per_minute="tpm", attempts="tries")
    check_options(sent, ImageLimits, bytes="max_image_bytes", pixels="max_image_pixels")


def sampling_from(max_tokens: int, temperature: float, top_p: float, extra: str) -> "Sampling":
    """Return how responses are drawn; a negative temperature or nucleus is not sent.

    Raises:
        ValueError: if the further fields are not a JSON object.
    """
    from ptdpo.chat.protocol import extra_fields
    from ptdpo.chat.requests import Sampling

    if extra:
        extra_fields(extra)
    return Sampling(max_tokens, temperature if temperature >= 0 else None, top_p if top_p >= 0 else None, None, extra)


def service_from(options: dict) -> "Service":
    """Return the service that the options of a command describe (its ``locals()``).

    Raises:
        ValueError: if an option has no usable value.
    """
    from ptdpo.chat.client import ClientSettings, Endpoint
    from ptdpo.chat.images import ImageLimits
    from ptdpo.chat.jobs import Service

    main = Endpoint(options["base_url"], options["model"], options["api_key_env"])
    fallback = None
    if options.get("fallback_model"):
        address = options["fallback_base_url"] or main.base_url
        fallback = Endpoint(address, options["fallback_model"], options["fallback_api_key_env"] or main.api_key_env)
    elif options.get("fallback_base_url"):
        raise ValueError("--fallback-base-url is given without --fallback-model: name the model")
    images = ImageLimits()
    if "max_image_bytes" in options:
        images = ImageLimits(options["max_image_bytes"], options["max_image_pixels"])
    settings = ClientSettings(
        concurrency=options["concurrency"],
        requests_per_minute=options["rpm"],
        tokens_per_minute=options["tpm"],
        timeout=options["timeout"],
        attempts=options["tries"],
        images=images,
    )
    return Service(main, fallback, settings, options["price_in"], options["price_out"])


def report_and_exit(report: "JobReport", out: Path, failed: Path) -> None:
    """Print what a job did; exit with 1 if some problems failed.

    Raises:
        typer.Exit: with code 1.
    """
    from ptdpo.chat.secrets import printable
    from ptdpo.commands.printing import out as console

    console.print(f"{report.done} done, {report.known} done before, {len(report.failed)} failed; {out}")
    console.print(report.usage.describe())
    if report.failed:
        for row in report.failed[:10]:
            console.print(printable(f"  {row.id}: {row.reason}"), highlight=False, markup=False)
        console.print(f"all of them, with reasons: {failed}")
        raise typer.Exit(1)
