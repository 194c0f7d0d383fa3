"""Chat completions as they go over the wire: a request as a body, in a dialect that the server understands."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any

from ptdpo.chat.images import ImageLimits, data_url
from ptdpo.chat.requests import ChatMessage, ChatRequest
from ptdpo.data.prompts import interleave_images

# Statuses by which servers say that they do not know a field of the body.
_UNKNOWN_FIELD = (400, 422)
_HIGHEST_WAIT = 3600.0
_CHARACTERS_PER_TOKEN, _TOKENS_PER_IMAGE = 4, 1000


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a server has turned out to understand."""

    schema: bool = True
    limit_field: str = "max_tokens"


def request_body(request: ChatRequest, limits: ImageLimits) -> dict[str, Any]:
    """Return the body but for the fields that depend on the dialect.

    Raises:
        ValueError: if an image is missing or unreadable, or the further fields are not a JSON object.
    """
    sampling = request.sampling
    wanted = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed}
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [_message(message, limits) for message in request.messages],
        **{name: value for name, value in wanted.items() if value is not None},
    }
    return body | extra_fields(sampling.extra) if sampling.extra else body


def extra_fields(text: str) -> dict[str, Any]:
    """Return the further fields of a body.

    Raises:
        ValueError: if the text is not a JSON object.
    """
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"extra fields {text!r}: not valid JSON ({error.msg})") from error
    if not isinstance(fields, dict):
        raise ValueError(f"extra fields {text!r}: must be a JSON object")
    return fields


def _message(message: ChatMessage, limits: ImageLimits) -> dict[str, Any]:
    if not message.images:
        return {"role": message.role, "content": message.text}
    images = [{"type": "image_url", "image_url": {"url": data_url(path, limits)}} for path in message.images]
    parts = interleave_images(message.text, images) if message.in_place else [*images, message.text]
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"role": message.role, "content": content}


def dialect_fields(request: ChatRequest, dialect: Dialect) -> dict[str, Any]:
    """Return the fields that a server may not know, or may know under another name."""
    fields: dict[str, Any] = {dialect.limit_field: request.sampling.max_tokens}
    if request.schema is not None and dialect.schema:
        schema = {"name": request.schema.name, "schema": dict(request.schema.body), "strict": True}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    return fields


def simpler(dialect: Dialect, request: ChatRequest, status: int, said: str) -> Dialect | None:
    """Return the next dialect to try after a refusal, or ``None`` if the request itself is at fault."""
    if status not in _UNKNOWN_FIELD:
        return None
    if "max_completion_tokens" in said and dialect.limit_field == "max_tokens":
        return replace(dialect, limit_field="max_completion_tokens")
    return replace(dialect, schema=False) if dialect.schema and request.schema is not None else None


def asked_wait(headers: Mapping[str, str]) -> float:
    """Return the seconds that Retry-After asks for, given as seconds or as a date; 0 if it does not ask."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), _HIGHEST_WAIT) if math.isfinite(seconds) else 0.0


def rough_cost(request: ChatRequest) -> int:
    """Return a first guess of the tokens that a request takes, before any reply has been seen."""
    text = sum(len(message.text) for message in request.messages) // _CHARACTERS_PER_TOKEN
    images = sum(len(message.images) for message in request.messages) * _TOKENS_PER_IMAGE
    return text + images + min(request.sampling.max_tokens, _TOKENS_PER_IMAGE)
