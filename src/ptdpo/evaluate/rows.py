"""Ways to find the question and the answer in a row."""

from typing import Any

from ptdpo.data.prompts import IMAGE_MARKER
from ptdpo.data.rows import as_text
from ptdpo.evaluate.benchmark import Row, RowReader
from ptdpo.rewards.extraction import last_boxed


def turns(row: Row, role: str) -> list[str]:
    """Return what a role says in a row's messages, turn by turn; of content in parts, text with a marker per image.

    Raises:
        ValueError: if it is neither text nor parts of text and images.
    """
    messages = row["messages"]
    if not isinstance(messages, list | None) or not all(isinstance(one, dict) for one in messages or []):
        raise ValueError(f"messages: expected a list of turns with role and content, found {str(messages)[:40]!r}")
    return [_words(message.get("content")) for message in messages or [] if message.get("role") == role]


def _words(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return as_text(content, "messages")
    if not isinstance(content, list):
        raise ValueError(f"messages: a turn's content must be text or parts, found {type(content).__name__}")
    return "".join(map(_part, content))


def _part(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return as_text(part.get("text"), "messages")
    if kind == "image":
        return IMAGE_MARKER
    raise ValueError(f"messages: a part of a turn must be text or an image, found {kind or type(part).__name__}")


def _question(row: Row) -> str:
    """Return the user's turn.

    Raises:
        ValueError: if there are several: what is asked then is a conversation, of which the model would see one turn.
    """
    asked = turns(row, "user")
    if len(asked) > 1:
        raise ValueError(f"messages: {len(asked)} turns of the user, and one question is asked")
    return asked[0] if asked else ""


def _label(row: Row) -> str:
    """Return the assistant's last turn; of a boxed one, what is in the box."""
    label = next(reversed(turns(row, "assistant")), "").strip()
    boxed = last_boxed(label)
    return label if boxed is None else boxed


# PAPO_eval: the user's turn is the whole prompt, the assistant's turn is the label.
MESSAGES = RowReader(("messages", "images"), _question, _label)
