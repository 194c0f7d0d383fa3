"""Whether what a server sent is a reply: one with a field of the wrong kind is tried again, never kept."""

from collections.abc import Mapping
from typing import Any

from ptdpo.chat.requests import ChatReply


def reply_from(completion: Any, model: str) -> ChatReply:
    """Return the reply in a parsed chat completion.

    Args:
        completion: as the library built it, which checks no types.
        model: that was asked.

    Raises:
        ValueError: naming the field that is missing or of the wrong kind, or another model that answered.
    """
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise ValueError("it has no choices")
    answered = getattr(completion, "model", None)
    if not _same_model(answered, model):
        raise ValueError(f"it is of the model {str(answered)[:100]!r}, asked was {model!r}")
    message = getattr(choices[0], "message", None)
    finish = getattr(choices[0], "finish_reason", None)
    thinking = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    usage = getattr(completion, "usage", None)
    reply = ChatReply(
        text=_content(message, finish, thinking),
        finish_reason="stop" if finish is None else finish,
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        reasoning="" if thinking is None else thinking,
    )
    check_reply(reply)
    return reply


def _content(message: Any, finish: Any, thinking: Any) -> Any:
    """Return the content, of whatever type it came: ``check_reply`` refuses all but text."""
    content = getattr(message, "content", None)
    # A model that thinks apart from its answer, or is cut off before it, has none.
    if content is None and (finish == "length" or isinstance(thinking, str)):
        return ""
    return content


def _count(usage: Any, name: str) -> int:
    if isinstance(usage, list | str | int | float):
        raise ValueError(f"its usage is {_kind(usage)}, not an object")
    value = usage.get(name) if isinstance(usage, Mapping) else getattr(usage, name, None)
    return 0 if value is None else value


def check_reply(reply: ChatReply) -> None:
    """Refuse a reply whose fields are not of their kind, such as an old store may hold.

    Raises:
        ValueError: naming the field.
    """
    for name in ("text", "finish_reason", "reasoning"):
        value = getattr(reply, name)
        if not isinstance(value, str):
            raise ValueError(f"its {_FIELDS.get(name, name)} is {_kind(value)}, not a text")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"its {_FIELDS.get(name, name)} has half a character (U+{ord(value[error.start]):X})"
            ) from error
    for name in ("prompt_tokens", "completion_tokens"):
        value = getattr(reply, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ValueError(f"its usage.{name} is {_kind(value)}, not a number of tokens")


_FIELDS = {"text": "content"}


def _kind(value: object) -> str:
    return "null" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"


def _same_model(answered: object, asked: str) -> bool:
    """Return whether a server means the model that was asked: many add a date, or leave the owner out."""
    if answered is None or answered == "":
        return True
    if not isinstance(answered, str):
        return False
    # transformers serve adds the revision.
    one, other = answered.casefold().partition("@")[0], asked.casefold().partition("@")[0]
    short = min(one, other, key=len)
    return one == other or one.startswith(f"{other}-") or max(one, other, key=len).endswith(f"/{short}")
