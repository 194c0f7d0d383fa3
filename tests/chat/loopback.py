"""A real HTTP server on loopback that speaks the chat-completions protocol and misbehaves on command."""

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any


@dataclass(frozen=True)
class Say:
    """An ordinary answer."""

    text: str
    finish_reason: str = "stop"
    delay: float = 0.0
    prompt_tokens: int = 10
    completion_tokens: int = 5


@dataclass(frozen=True)
class Refuse:
    """A status with an error message."""

    status: int
    message: str = "refused"
    headers: dict[str, str] = field(default_factory=dict)
    code: str | None = None


@dataclass(frozen=True)
class Cut:
    """Close the connection after so many bytes of the answer; 0: before the first."""

    after: int = 0


@dataclass(frozen=True)
class Raw:
    """Status 200 with this text as the body."""

    text: str


@dataclass(frozen=True)
class Drip:
    """Status 200, then a blank now and then, without an end."""


@dataclass(frozen=True)
class Hold:
    """No answer until the server is told to release, then this one."""

    then: Say


Behaviour = Callable[[dict[str, Any], int], Say | Refuse | Cut | Raw | Drip | Hold]


def user_text(body: dict[str, Any]) -> str:
    """All user text of a request."""
    texts = []
    for message in body["messages"]:
        if message["role"] != "user":
            continue
        content = message["content"]
        texts += [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    return "\n".join(texts)


class LoopbackServer:
    """Answers each request as ``behave(body, number)`` says; ``received`` and ``answered`` hold the bodies."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.received: list[dict[str, Any]] = []
        self.answered: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.in_flight = self.peak = 0
        self._release = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> "LoopbackServer":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def release(self) -> None:
        self._loop.call_soon_threadsafe(self._release.set)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=2**26)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))))
        self.received.append(body)
        self.headers.append(headers)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            return await self._act(self.behave(body, len(self.received) - 1), body, writer)
        finally:
            self.in_flight -= 1

    async def _act(self, action: Any, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        if isinstance(action, Hold):
            await self._release.wait()
            action = action.then
        if isinstance(action, Drip):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        if isinstance(action, Cut):
            writer.write(_http(200, json.dumps(completion(Say("never read"))))[: action.after])
            await writer.drain()
            return False
        if isinstance(action, Refuse):
            error = {"error": {"message": action.message, "type": "error", "code": action.code}}
            writer.write(_http(action.status, json.dumps(error), action.headers))
        elif isinstance(action, Raw):
            writer.write(_http(200, action.text))
        else:
            await asyncio.sleep(action.delay)
            writer.write(_http(200, json.dumps(completion(action, body["model"]))))
            self.answered.append(body)
        await writer.drain()
        return True


def completion(action: Say, model: str = "m") -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": action.text},
                "finish_reason": action.finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": action.prompt_tokens,
            "completion_tokens": action.completion_tokens,
            "total_tokens": action.prompt_tokens + action.completion_tokens,
        },
    }


def _http(status: int, body: str, headers: dict[str, str] | None = None) -> bytes:
    content = body.encode()
    extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    phrase = HTTPStatus(status).phrase
    return (
        f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n{extra}\r\n"
    ).encode() + content
