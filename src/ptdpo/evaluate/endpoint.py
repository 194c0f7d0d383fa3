"""Answers from an OpenAI-compatible endpoint such as vLLM; the requests go through the one network client."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console

from ptdpo.chat.client import ChatClient, ClientSettings, Endpoint, EndpointError, RequestError
from ptdpo.chat.limits import StopSignal
from ptdpo.chat.pool import pooled, run_interruptible
from ptdpo.chat.requests import ChatMessage, ChatRequest, Sampling
from ptdpo.chat.secrets import public_url
from ptdpo.chat.store import RequestStore
from ptdpo.data.prompts import IMAGE_MARKER, question_text
from ptdpo.evaluate.settings import ModelSettings
from ptdpo.evaluate.store import UngradedResponse
from ptdpo.evaluate.task import Task, stream_seed
from ptdpo.records import Problem

REQUESTS = "requests.jsonl"
_LISTED = 5


@dataclass(frozen=True, slots=True)
class _Failure:
    """A sample that could not be had, and why."""

    id: str
    sample: int
    reason: str


class EndpointEngine:
    """A model behind an endpoint. Answered requests are kept, so that a run that is killed asks none twice."""

    def __init__(self, endpoint: Endpoint, settings: ClientSettings | None = None, revision: str | None = None) -> None:
        """Name the endpoint; the revision of its model is what the user says it is."""
        self._endpoint = endpoint
        self._settings = settings or ClientSettings()
        self._revision = revision or "not stated"
        self._console = Console(stderr=True)

    def describe(self) -> ModelSettings:
        """Return what is known of the model; nothing is asked of the endpoint."""
        name = self._endpoint.model
        return ModelSettings(name, "endpoint", self._revision, endpoint=public_url(self._endpoint.base_url))

    def processor(self) -> None:
        """Return ``None``: what reads the prompts is behind the endpoint."""

    def answer(self, task: Task, keep: Callable[[list[UngradedResponse]], None]) -> None:
        """Ask what is missing, many questions at a time.

        Raises:
            ValueError: if some samples could not be had: counts and lists them; the others are kept.
            EndpointError: if the endpoint is down, or refuses every request.
        """
        task.folder.mkdir(parents=True, exist_ok=True)
        try:
            with RequestStore(task.folder / REQUESTS) as store:
                failures = run_interruptible(lambda stop: self._ask_all(task, keep, store, stop), self._console.print)
        except EndpointError as error:
            raise EndpointError(f"{error}{_advice(str(error), task.sampling.extra)}") from error
        if failures:
            listed = ", ".join(f"{f.id} sample {f.sample} ({f.reason})" for f in failures[:_LISTED])
            more = f" and {len(failures) - _LISTED} more" if len(failures) > _LISTED else ""
            raise ValueError(
                f"{task.name}: {len(failures)} responses could not be had: {listed}{more}; "
                "the others are kept: run the same command again"
            )

    async def _ask_all(
        self, task: Task, keep: Callable[[list[UngradedResponse]], None], store: RequestStore, stop: StopSignal
    ) -> list[_Failure]:
        failures = []
        async with ChatClient(self._endpoint, store, settings=self._settings, stop=stop) as client:

            async def ask(question: tuple[Problem, int]) -> UngradedResponse | _Failure:
                problem, sample = question
                try:
                    reply = await client.ask(self._request(task, problem, sample))
                except RequestError as error:
                    return _Failure(problem.id, sample, str(error))
                return UngradedResponse(problem.id, sample, reply.written_out, reply.completion_tokens, reply.cut_off)

            wanted = _missing(task)
            async for found in pooled(wanted, ask, concurrency=self._settings.concurrency, stop=stop):
                if isinstance(found, _Failure):
                    failures.append(found)
                else:
                    # Grading may take its time: the requests in flight go on meanwhile.
                    await asyncio.to_thread(keep, [found])
        return failures

    def _request(self, task: Task, problem: Problem, sample: int) -> ChatRequest:
        sampling = task.sampling
        text = problem.problem if task.instruction is None else question_text(problem, task.instruction)
        # 31 bits: the widest seed that every server takes.
        seed = stream_seed(sampling.seed, f"{task.name} {problem.id}", sample, 0) >> 32
        return ChatRequest(
            problem.id,
            self._endpoint.model,
            (ChatMessage("user", text, problem.images, IMAGE_MARKER in text),),
            Sampling(sampling.max_new_tokens, sampling.temperature, sampling.top_p, seed, sampling.extra),
            sample,
            prompt_version=self._revision,
        )


def _advice(error: str, extra: str) -> str:
    """Return what may help where a server refuses what it does not know."""
    refused = "status 400" in error or "status 422" in error
    return f"; it may not know the fields {extra}: leave them out with --extra ''" if refused and extra else ""


def _missing(task: Task) -> Iterator[tuple[Problem, int]]:
    for sample in range(task.sampling.samples):
        for problem in task.problems:
            if (problem.id, sample) not in task.done:
                yield problem, sample
