"""Which numbers options take, checked before a command does anything."""

from collections.abc import Mapping
from typing import Any

from ptdpo.values import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Range, check_range

_COUNTS = (
    "limit", "samples", "max_new_tokens", "batch_size", "max_prompt_tokens", "max_tokens", "concurrency", "tries",
    "max_image_bytes", "max_image_pixels", "attempts", "guesses", "draws", "repair_max_tokens",
)  # fmt: skip
_RANGES: Mapping[str, Range] = {
    **dict.fromkeys(_COUNTS, COUNT),
    **dict.fromkeys(("rpm", "tpm", "timeout", "learning_rate"), POSITIVE),
    **dict.fromkeys(
        ("fallback_attempts", "repair_samples", "reverse_samples", "price_in", "price_out", "seed"), NOT_NEGATIVE
    ),
    "alpha": Range(0, 1, with_low=False, with_high=False),
}
# Of requests, where a value below 0 is not sent.
SENT_SHARE = Range(high=1)


def check_options(given: Mapping[str, Any]) -> None:
    """Refuse options out of range.

    Args:
        given: a command's ``locals()``: options by the names of its parameters.

    Raises:
        ValueError: naming the option, its value and what it must be.
    """
    for name, allowed in _RANGES.items():
        check_range(_option(name), given.get(name), allowed)
    asks_a_server = "max_tokens" in given
    check_range("--top-p", given.get("top_p"), SENT_SHARE if asks_a_server else SHARE)
    if not asks_a_server:
        check_range("--temperature", given.get("temperature"), NOT_NEGATIVE)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
