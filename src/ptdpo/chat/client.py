"""The only network code: chat completions from an OpenAI-compatible server, each answered request asked once."""

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any

import httpx2
import openai
from openai.types.chat import ChatCompletion
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from ptdpo.chat.images import ImageLimits
from ptdpo.chat.limits import RateLimiter, StopSignal
from ptdpo.chat.progress import Usage
from ptdpo.chat.protocol import Dialect, asked_wait, dialect_fields, request_body, rough_cost, simpler
from ptdpo.chat.replies import reply_from
from ptdpo.chat.requests import ChatReply, ChatRequest, request_key
from ptdpo.chat.secrets import Mask, check_url, public_url, query_of, without_query
from ptdpo.chat.store import RequestStore
from ptdpo.values import POSITIVE, Count, check_limits

# Statuses that no other request of the run would escape: wrong key, wrong address or model. Not 403: some services
# refuse single requests with it.
_HOPELESS = (401, 404, 405)
_TRANSIENT_4XX = (408, 409, 425, 429)


class RequestError(ValueError):
    """One request cannot be answered: refused by the server, or given up after the last attempt."""


class EndpointError(ValueError):
    """No request of the run can be answered: wrong key, address or model, or a server that never answers."""


class _OtherHost(Exception):  # noqa: N818
    """A server redirects to one that the user did not name."""


class _Transient(Exception):  # noqa: N818
    """Worth another attempt; ``wait`` is what the server asked for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server and a model on it; the API key is read from the environment variable named here."""

    base_url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"


Rate = Annotated[float, POSITIVE]


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How requests are sent. None of this is part of a request's key.

    Attributes:
        concurrency: requests in flight at most.
        requests_per_minute: ``None`` for no limit.
        tokens_per_minute: of prompts and responses; ``None`` for no limit.
        timeout: seconds for one attempt.
        attempts: of one request before it counts as failed.
        first_wait: seconds before the second attempt, doubled each time, plus as much again at random.
        longest_wait: seconds between attempts at most, unless the server asks for more.
        images: what the server takes as it is.
        give_up_after: so many failed requests in a row end the run.
    """

    concurrency: Count = 64
    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None
    timeout: Annotated[float, POSITIVE] = 600.0
    attempts: Count = 8
    first_wait: float = 1.0
    longest_wait: float = 60.0
    images: ImageLimits = field(default_factory=ImageLimits)
    give_up_after: Count = 20

    def __post_init__(self) -> None:
        """Refuse settings under which nothing could be sent.

        Raises:
            ValueError: names the setting.
        """
        check_limits(self)


class ChatClient:
    """Asks one endpoint; replies come from the store when it has them. Use as an async context manager.

    Raises:
        ValueError: if the address is not a URL.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        store: RequestStore,
        *,
        settings: ClientSettings | None = None,
        usage: Usage | None = None,
        stop: StopSignal | None = None,
    ) -> None:
        check_url(endpoint.base_url)
        self.endpoint = endpoint
        self.usage, self.stop = usage or Usage(), stop or StopSignal()
        self._store, self._settings = store, settings or ClientSettings()
        self._key = os.environ.get(endpoint.api_key_env, "").strip()
        self._mask, self._address = Mask(self._key, endpoint.base_url), public_url(endpoint.base_url)
        # Retries are ours: the library's own would hide waits from the limits and from Ctrl-C.
        self._api = openai.AsyncOpenAI(
            base_url=without_query(endpoint.base_url),
            default_query=query_of(endpoint.base_url),
            api_key=self._key or "none",
            timeout=self._settings.timeout,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks={"request": [self._refuse_other_host]}),
        )
        self._slots = asyncio.Semaphore(self._settings.concurrency)
        self._limiter = RateLimiter(self._settings.requests_per_minute, self._settings.tokens_per_minute)
        self._dialect = Dialect()
        self._failed_in_a_row = 0

    async def __aenter__(self) -> "ChatClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.close()

    async def ask(self, request: ChatRequest) -> ChatReply:
        """Return the reply to a request, from the store if it was answered before.

        A new reply is in the store before it is returned.

        Raises:
            ValueError: if an image is missing or unreadable.
            RequestError: if the server refuses this request, or does not answer it in the last attempt.
            EndpointError: if no request of this run can succeed.
            Stopped: if the run is ending.
        """
        key = await _off_loop(request, request_key, request)
        if (kept := self._store.get(key)) is not None:
            self.usage.reused += 1
            return kept
        async with self._slots:
            self.stop.check()
            # Only requests in flight hold their images.
            body = await _off_loop(request, request_body, request, self._settings.images)
            reply = await self._answer(request, body)
        self._store.add(key, request, reply)
        self.usage.add(reply)
        return reply

    async def ask_all(self, requests: Iterable[ChatRequest]) -> list[ChatReply]:
        """Ask several at once and return the replies in order.

        All are finished, and kept, before an error is raised.

        Raises:
            EndpointError: if no request of this run can succeed, whatever else failed.
            ValueError, RequestError, Stopped: the first of these among them; see ``ask``.
        """
        replies = await asyncio.gather(*map(self.ask, requests), return_exceptions=True)
        errors = [reply for reply in replies if isinstance(reply, BaseException)]
        if errors:
            raise next((error for error in errors if isinstance(error, EndpointError)), errors[0])
        return [reply for reply in replies if isinstance(reply, ChatReply)]

    async def _answer(self, request: ChatRequest, body: dict[str, Any]) -> ChatReply:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_Transient),
            stop=stop_after_attempt(self._settings.attempts),
            wait=self._wait,
            sleep=self.stop.sleep,
            before_sleep=self._count_retry,
            reraise=True,
        )
        try:
            reply = await retrying(self._attempt, request, body)
        except _Transient as error:
            failure = RequestError(f"no answer in {self._settings.attempts} attempts; the last: {error}")
            self._note_failure(failure)
            raise failure from error
        except RequestError as error:
            self._note_failure(error)
            raise
        self._failed_in_a_row = 0
        return reply

    def _note_failure(self, error: RequestError) -> None:
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= self._settings.give_up_after:
            raise EndpointError(
                f"{self._address}: {self._failed_in_a_row} requests in a row failed, the last: {error}"
            ) from error

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.wait if isinstance(error, _Transient) else 0.0
        first = self._settings.first_wait
        backoff = wait_exponential_jitter(multiplier=first, jitter=first, max=self._settings.longest_wait)
        return max(asked, backoff(state))

    def _count_retry(self, _: RetryCallState) -> None:
        self.usage.retries += 1

    async def _attempt(self, request: ChatRequest, body: dict[str, Any]) -> ChatReply:
        guess = self._limiter.estimate(rough_cost(request))
        await self._limiter.wait(guess, self.stop)
        reply = await self._send_in_dialect(request, body)
        self._limiter.settle(guess, reply.prompt_tokens + reply.completion_tokens)
        return reply

    async def _send_in_dialect(self, request: ChatRequest, body: dict[str, Any]) -> ChatReply:
        """Send; if the server does not know a field, send again without it, and remember when that helped."""
        dialect = self._dialect
        while True:
            try:
                reply = await self._send({**body, **dialect_fields(request, dialect)}, request.id)
            except openai.APIStatusError as error:
                easier = simpler(dialect, request, error.status_code, str(error))
                if easier is None:
                    raise self._mistake(error) from error
                dialect = easier
            else:
                self._dialect = dialect
                return reply

    async def _refuse_other_host(self, request: httpx2.Request) -> None:
        """Follow a redirect on the same server only: the next one was not named by the user, and would get the data."""
        asked, base = request.url, self._api.base_url
        if asked.host != base.host or (base.scheme == "https" and asked.scheme != "https"):
            raise _OtherHost(
                f"sends its requests on to {asked.scheme}://{asked.host}: name that as the base URL if you trust it"
            )

    async def _send(self, body: dict[str, Any], problem_id: str) -> ChatReply:
        try:
            # The library's own limit is on the silence between two bytes: a server that drips blanks holds it for ever.
            async with asyncio.timeout(self._settings.timeout):
                # The typed method walks through every message, which costs as much time as all of our own work.
                completion = await self._api.post("/chat/completions", cast_to=ChatCompletion, body=body)
            return reply_from(completion, self.endpoint.model)
        except openai.APIStatusError as error:
            if (error.status_code < 500 and error.status_code not in _TRANSIENT_4XX) or _out_of_money(error):
                raise
            wait = asked_wait(error.response.headers)
            self._limiter.pause(wait)
            self.usage.note_wait(wait)
            raise _Transient(f"status {error.status_code}: {self._clean(error)}", wait) from error
        except _OtherHost as error:
            raise EndpointError(f"{self._address}: {error}") from error
        except (openai.APITimeoutError, TimeoutError) as error:
            raise _Transient(f"no answer within {self._settings.timeout:g} seconds") from error
        except (openai.APIError, httpx2.HTTPError) as error:
            cause = error.__cause__ or error
            raise _Transient(f"connection broken ({type(cause).__name__}: {self._clean(cause)})") from error
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            self.usage.count_invalid(problem_id)
            raise _Transient(f"an answer that is not a chat completion ({self._clean(error)})") from error

    def _mistake(self, error: openai.APIStatusError) -> ValueError:
        said = f"{self._address}: status {error.status_code}: {self._clean(error)}"
        if error.status_code == 401:
            found = "is not accepted" if self._key else "is not set"
            return EndpointError(f"{said}; the key in the environment variable {self.endpoint.api_key_env} {found}")
        if error.status_code in _HOPELESS:
            return EndpointError(f"{said}; check the base URL and the model {self.endpoint.model!r}")
        return EndpointError(said) if _out_of_money(error) else RequestError(said)

    def _clean(self, error: BaseException) -> str:
        """Return the message of an error in one line, without the secrets that some servers repeat."""
        body = getattr(error, "body", None)
        told = body.get("message") if isinstance(body, dict) else None
        return self._mask(str(told or error))


async def _off_loop(request: ChatRequest, work: Any, *arguments: Any) -> Any:
    """Run in a thread if images have to be read, so that the other requests go on meanwhile."""
    if any(message.images for message in request.messages):
        return await asyncio.to_thread(work, *arguments)
    return work(*arguments)


def _out_of_money(error: openai.APIStatusError) -> bool:
    return error.code == "insufficient_quota"
