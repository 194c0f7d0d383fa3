"""What is asked of a model and what it answers: the records shared by hints, solutions and evaluation."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ptdpo.folders import regular_file
from ptdpo.values import Count, Nucleus, Temperature, check_limits


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message; ``images`` are paths of files, shown in front of the text, or ``in_place``: at its markers."""

    role: str
    text: str
    images: tuple[str, ...] = ()
    in_place: bool = False


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a response is drawn.

    Attributes:
        max_tokens: length at which a response is cut.
        temperature: ``None`` leaves it to the server, as some reasoning models demand.
        top_p: nucleus; ``None`` leaves it to the server.
        seed: for servers that know one.
        extra: further fields of the request's body as JSON text, such as ``{"top_k": 20}``; empty for none.
    """

    max_tokens: Count = 16_384
    temperature: Temperature | None = 1.0
    top_p: Nucleus | None = 1.0
    seed: int | None = None
    extra: str = ""

    def __post_init__(self) -> None:
        """Refuse what no server could do.

        Raises:
            ValueError: names the setting.
        """
        check_limits(self)


@dataclass(frozen=True, slots=True)
class ResponseSchema:
    """The JSON schema that a response should follow, where the server can enforce one."""

    name: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question to one model.

    Attributes:
        id: the problem it belongs to.
        model: as the server calls it.
        messages: the conversation so far.
        sampling: how the response is drawn.
        sample: tells apart several draws for the same problem.
        prompt_version: of the prompt text; a new version is a new request.
        schema: what the response should look like, if anything.
    """

    id: str
    model: str
    messages: tuple[ChatMessage, ...]
    sampling: Sampling = Sampling()
    sample: int = 0
    prompt_version: str = ""
    schema: ResponseSchema | None = None


@dataclass(frozen=True, slots=True)
class ChatReply:
    """One response.

    Attributes:
        text: the content, empty if the model gave none.
        finish_reason: ``stop``, ``length`` (cut off), or what else the server says.
        prompt_tokens: as the server counts them, images included; 0 if it does not say.
        completion_tokens: likewise.
        reasoning: the thinking, from servers that return it apart from the content.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    reasoning: str = ""

    @property
    def cut_off(self) -> bool:
        """Whether the response ran into the limit on its length."""
        return self.finish_reason == "length"

    @property
    def written_out(self) -> str:
        """The reply as the model wrote it: thinking that a server hands out apart is put back in front, in its tags."""
        if not self.reasoning.strip():
            return self.text
        closing = "" if self.cut_off and not self.text else f"\n</think>\n\n{self.text.strip()}"
        return f"<think>\n{self.reasoning.strip()}{closing}"


def request_key(request: ChatRequest) -> str:
    """Return the content hash of a request: problem, image bytes, prompt version, model, sampling, sample.

    How it is sent (server address, time-outs, retries, concurrency, image limits) is not part of it.

    Raises:
        ValueError: if an image file cannot be read.
    """
    content = asdict(request)
    for message in content["messages"]:
        message["images"] = [_file_hash(path) for path in message["images"]]
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _file_hash(path: str) -> str:
    try:
        return hashlib.sha256(regular_file(path, "image").read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
