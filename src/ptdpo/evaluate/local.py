"""Answers from a model in this process. Every batch has its own random stream, so a run can stop after any."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ptdpo.evaluate.fingerprint import model_fingerprint
from ptdpo.evaluate.prompts import chat_messages, prompt_parts
from ptdpo.evaluate.settings import UNKNOWN_REVISION, ModelSettings
from ptdpo.evaluate.store import UngradedResponse
from ptdpo.evaluate.task import Task, stream_seed
from ptdpo.models.loading import check_model, load_model, load_processor, model_config
from ptdpo.models.sampling import generate_batch
from ptdpo.records import Problem


class LocalEngine:
    """A transformers model and its processor, loaded when the first question is asked."""

    def __init__(self, name: str, revision: str | None = None) -> None:
        """Name a folder, or a model of the hub at a revision."""
        self._name = name
        self._revision = revision
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._loaded: tuple[Any, Any] | None = None

    def describe(self) -> ModelSettings:
        """Return what is known of the model without loading its weights.

        Raises:
            ValueError: if there is no such model.
        """
        check_model(self._name)
        try:
            config = model_config(self._name, **self._pinned)
        except (OSError, ValueError) as error:
            raise ValueError(f"no model {self._name!r}: {str(error).splitlines()[0]}") from error
        revision = model_fingerprint(self._name) or config._commit_hash or UNKNOWN_REVISION
        return ModelSettings(self._name, "transformers", revision, str(config.dtype), self._device)

    def processor(self) -> Any:
        """Return the model's processor.

        Raises:
            ValueError: if there is no such model.
        """
        check_model(self._name)
        return load_processor(self._name, **self._pinned)

    def answer(self, task: Task, keep: Callable[[list[UngradedResponse]], None]) -> None:
        """Sample what is missing, a batch at a time.

        A batch that is done in part is sampled again as a whole: its stream gives the same answers, and those that
        are there are not handed over twice.
        """
        size = task.sampling.batch_size
        for sample in range(task.sampling.samples):
            for start in range(0, len(task.problems), size):
                batch = task.problems[start : start + size]
                missing = {problem.id for problem in batch if (problem.id, sample) not in task.done}
                if missing:
                    seed = stream_seed(task.sampling.seed, task.name, sample, start)
                    answers = self._generate(batch, task, sample, seed)
                    keep([answer for answer in answers if answer.id in missing])

    def _generate(self, batch: Sequence[Problem], task: Task, sample: int, seed: int) -> list[UngradedResponse]:
        model, processor = self._model()
        generated = generate_batch(
            model,
            processor,
            [chat_messages(prompt_parts(problem, task.instruction)) for problem in batch],
            max_new_tokens=task.sampling.max_new_tokens,
            temperature=task.sampling.temperature,
            top_p=task.sampling.top_p,
            seed=seed,
            greedy=task.sampling.temperature == 0.0,
        )
        return [
            UngradedResponse(problem.id, sample, g.text, g.tokens, g.truncated)
            for problem, g in zip(batch, generated, strict=True)
        ]

    def _model(self) -> tuple[Any, Any]:
        if self._loaded is None:
            model: Any = load_model(self._name, attach=True, **self._pinned)
            self._loaded = model.to(self._device), load_processor(self._name, **self._pinned)
        return self._loaded

    @property
    def _pinned(self) -> dict[str, Any]:
        return {} if self._revision is None else {"revision": self._revision}
