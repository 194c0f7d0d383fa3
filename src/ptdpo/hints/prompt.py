"""What the hint writer is told, and how its answer is read."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ptdpo.chat.requests import ChatMessage, ResponseSchema
from ptdpo.data.prompts import IMAGE_MARKER, placed_text
from ptdpo.folders import regular_file
from ptdpo.records import Hint, Problem
from ptdpo.text.thinking import after_thinking

# Raised whenever a prompt changes in a way that changes the hints.
_VERSION, _TEXT_VERSION = "hints-1", "hints-text-1"

HINT_SCHEMA = ResponseSchema(
    "hint",
    {
        "type": "object",
        "properties": {"look": {"type": "string"}, "reason": {"type": "string"}},
        "required": ["look", "reason"],
        "additionalProperties": False,
    },
)
_FIELDS = ("look", "reason")
# A heading such as "Look:", "**Where to look:**" or "## Reason" at the beginning of a line.
_HEADING = re.compile(r"^[\s#*>-]*(?:where to |how to )?(look|reason)(?:ing)?[\s*]*(?::[\s*]*|$)", re.I | re.M)


@dataclass(frozen=True, slots=True)
class SystemPrompt:
    """The instructions of the hint writer and the name under which requests remember them.

    Attributes:
        text: the instructions.
        version: their name.
        without_images: those for problems without images; ``None``: these.
    """

    text: str
    version: str
    without_images: "SystemPrompt | None" = None

    def of(self, problem: Problem) -> "SystemPrompt":
        """Return the instructions for a problem."""
        return self if problem.images or self.without_images is None else self.without_images


def system_prompt(path: str | Path | None = None) -> SystemPrompt:
    """Return our prompts, one for problems with images and one for those without, or the one in a user's file for all.

    Raises:
        ValueError: if the file cannot be read or is empty.
    """
    if path is None:
        in_words = SystemPrompt(_shipped("hint_prompt_text.txt"), _TEXT_VERSION)
        return SystemPrompt(_shipped("hint_prompt.txt"), _VERSION, in_words)
    try:
        text = regular_file(path, "system prompt").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: the system prompt cannot be read ({error})") from error
    if not text.strip():
        raise ValueError(f"{path}: the system prompt is empty")
    return SystemPrompt(text, f"own-{hashlib.sha256(text.encode()).hexdigest()[:12]}")


def _shipped(name: str) -> str:
    return files("ptdpo.hints").joinpath(name).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Rejection:
    """A hint that was not taken, as the model wrote it, and why."""

    text: str
    reasons: tuple[str, ...]


def hint_messages(problem: Problem, prompt: SystemPrompt, last: Rejection | None = None) -> tuple[ChatMessage, ...]:
    """Return the conversation that asks for a hint; after a rejection it shows the last hint and what was wrong."""
    question = f"Question:\n{placed_text(problem.problem)}\n\nVerified answer:\n{problem.answer}"
    asked = (
        ChatMessage("system", prompt.of(problem).text),
        ChatMessage("user", question, problem.images, IMAGE_MARKER in question),
    )
    if last is None:
        return asked
    wrong = "\n".join(f"- {reason}" for reason in last.reasons)
    again = f"This hint was rejected:\n{wrong}\n\nWrite a new one that avoids this, in the same format."
    return (*asked, ChatMessage("assistant", last.text), ChatMessage("user", again))


def parse_hint(text: str) -> Hint:
    """Read a hint from a response: JSON, alone or inside other text, or two parts under headings.

    Raises:
        ValueError: if one of the two parts is missing or empty, or all of it is thinking.
    """
    said = after_thinking(text)
    if said is None:
        raise ValueError("the thinking never ends")
    for found in (*_objects(said), _sections(said)):
        parts = {name: _as_text(found.get(name)) for name in _FIELDS}
        if all(parts.values()):
            return Hint(**parts)
    raise ValueError("not in the asked-for format: the two parts 'look' and 'reason' were not both found")


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield every JSON object in the text that may hold a hint, keys in lower case, outer objects first."""
    decoder = json.JSONDecoder(strict=False)
    start = text.find("{")
    while start != -1:
        try:
            found, end = decoder.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError):
            end = start + 1
        else:
            yield from _flattened(found)
        start = text.find("{", end)


def _flattened(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {str(key).strip().lower(): value for key, value in found.items()}
    yield from ({str(k).strip().lower(): v for k, v in inner.items()} for inner in found.values() if _is_dict(inner))


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _sections(text: str) -> dict[str, str]:
    headings = list(_HEADING.finditer(text))
    starts = [heading.start() for heading in headings] + [len(text)]
    return {h[1].lower(): text[h.end() : end] for h, end in zip(headings, starts[1:], strict=True)}


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value.strip().strip("`").strip()
    if isinstance(value, Sequence) and all(isinstance(part, str) for part in value):
        return " ".join(part.strip() for part in value)
    return ""
