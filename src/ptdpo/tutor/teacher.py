"""The teacher under what it is shown, with the images, scored along the student's own tokens."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from ptdpo.algo.lm_head import TeacherTopK
from ptdpo.data.prompts import Prompt
from ptdpo.data.rendering import formed, images_in
from ptdpo.models.family import TOKEN_TYPES, image_token
from ptdpo.models.reading import read_images, read_prompts
from ptdpo.tutor.head import HeadWeights, ScoredTokens, ScoreRequest, head_of

# What is left of one lesson or several: it has an entry per token.
_Left = TypeVar("_Left", TeacherTopK, Tensor)


@dataclass(frozen=True, slots=True)
class Turns:
    """What a rollout of several turns has besides its tokens.

    Attributes:
        template: arguments of the chat template for this rollout alone, such as the tools of its environment.
        images: those that tools answered with, whose places are among the response's tokens; ``None``: it has some, and
            they cannot be read, so neither can the rollout.
    """

    template: Mapping[str, Any] = field(default_factory=dict)
    images: Sequence[Any] | None = ()


@dataclass(frozen=True, slots=True)
class Lesson:
    """A rollout to be read by the teacher.

    Attributes:
        messages: what the teacher is shown, without images: a conversation, or plain text.
        images: that it sees in it.
        response_ids: [t], the student's own tokens, without padding; among them what tools and environments answered.
        written: [t] bool, those that the student wrote: only there does the teacher leave something; ``None``: all.
        turns: what else it has of several turns.
    """

    messages: Prompt
    images: Sequence[Any]
    response_ids: Tensor
    written: Tensor | None = None
    turns: Turns = Turns()

    @property
    def tokens(self) -> int:
        """Return how many tokens the student wrote."""
        return len(self.response_ids) if self.written is None else int(self.written.sum())


@dataclass(frozen=True, slots=True)
class TeacherReading:
    """What the teacher left along one rollout, on its way to the loss.

    Attributes:
        in_tutored_group: some rollout of this group is tutored.
        teacher: the teacher at the tokens that the student wrote, stored without its head; ``None``: not tutored.
        problem_id: the row's id, empty if the data has none.
        evidence: [n], how much more the teacher expects these tokens than when it reads what its context is contrasted
            with, in nats; ``None``: nothing is contrasted.
        weight: of the rollout, by its evidence.
    """

    in_tutored_group: bool
    teacher: TeacherTopK | None = None
    problem_id: str = ""
    evidence: Tensor | None = None
    weight: float = 1.0

    @property
    def tokens(self) -> int:
        """Return how many positions of this rollout are tutored."""
        return 0 if self.teacher is None else len(self.teacher)


class Teacher:
    """Reads lessons; never receives a gradient.

    Args:
        model: the model to call, wrapped for its engine or not; it must carry ``add_scoring_head``.
        unwrapped: the same model without its wrapper, which owns the head.
        processor: renders and tokenizes what it is shown, images included.
        micro_batch: lessons per forward.
        k: how many ids it keeps of each distribution.
        temperature: the sampling temperature, by which its logits are divided.
        weights: a context in which ``model`` has the teacher's weights, such as "adapter off".
        keep_head: keep a copy of the head that read, because the weights move before the loss is computed.
        template: arguments of the chat template, as the policy's prompts are written.
        with_entropy: leave the entropy of each distribution too.
    """

    def __init__(
        self,
        model: Any,
        unwrapped: torch.nn.Module,
        processor: Any,
        *,
        micro_batch: int,
        k: int = 100,
        temperature: float = 1.0,
        weights: Callable[[], AbstractContextManager[Any]] = nullcontext,
        keep_head: bool = False,
        template: Mapping[str, Any] | None = None,
        with_entropy: bool = False,
    ) -> None:
        if micro_batch < 1:
            raise ValueError(f"the teacher's micro-batch must be at least 1, got {micro_batch}")
        self._model, self._unwrapped, self._processor = model, unwrapped, processor
        self._micro_batch, self._weights = micro_batch, weights
        self._k, self._temperature = k, temperature
        self._keep_head, self._with_entropy = keep_head, with_entropy
        self._kept_head: HeadWeights | None = None
        self._template = dict(template or {})
        self.rows_read = 0

    def calls_needed(self, lessons: int) -> int:
        """Return how many forwards ``read`` makes for so many lessons."""
        return -(-lessons // self._micro_batch)

    @torch.no_grad()
    def read(self, lessons: Sequence[Lesson], *, calls: int, filler: Lesson) -> list[TeacherTopK]:
        """Return the teacher's distributions at each lesson's response tokens, stored without its head.

        Args:
            lessons: what to read.
            calls: how many forwards to make. Sharded models need the same number on every process; forwards
                beyond those needed read ``filler`` and are thrown away.
            filler: any lesson.

        Raises:
            ValueError: if ``calls`` is smaller than needed.
        """
        with self._weights():
            if self._keep_head and calls:
                head = head_of(self._unwrapped)
                self._kept_head = HeadWeights(head.weight.clone(), None if head.bias is None else head.bias.clone())
            return self._in_forwards(lessons, calls, filler, self._distributions)

    @torch.no_grad()
    def log_probs(self, lessons: Sequence[Lesson], *, calls: int, filler: Lesson) -> list[Tensor]:
        """Return [n] for each lesson, the teacher's log-probabilities of the tokens that the student wrote.

        Args:
            lessons: what to read.
            calls: as for ``read``.
            filler: as for ``read``.

        Raises:
            ValueError: if ``calls`` is smaller than needed.
        """
        with self._weights():
            return self._in_forwards(lessons, calls, filler, self._log_probs)

    @torch.no_grad()
    def head(self) -> HeadWeights:
        """Return the head that read; a collective call when the model is sharded."""
        if self._kept_head is not None:
            return self._kept_head
        with self._weights():
            return head_of(self._unwrapped)

    def _in_forwards(
        self, lessons: Sequence[Lesson], calls: int, filler: Lesson, forward: Callable[[Sequence[Lesson]], _Left]
    ) -> list[_Left]:
        """Return what each lesson leaves, ``forward`` being what a micro-batch of them leaves token by token."""
        needed = self.calls_needed(len(lessons))
        if calls < needed:
            raise ValueError(f"{len(lessons)} lessons need {needed} forwards, only {calls} were allowed")
        left: list[_Left] = []
        for start in range(0, len(lessons), self._micro_batch):
            read = lessons[start : start + self._micro_batch]
            whole = forward(read)
            ends = itertools.accumulate(lesson.tokens for lesson in read)
            left.extend(whole[first:last] for first, last in itertools.pairwise([0, *ends]))
        for _ in range(calls - needed):
            forward([filler])
        self.rows_read += len(lessons)
        return left

    def _log_probs(self, lessons: Sequence[Lesson]) -> Tensor:
        """Return the log-probabilities of the responses' tokens, lesson by lesson."""
        inputs, mask = self._inputs(lessons)
        responses = inputs["input_ids"][:, -mask.size(1) :]
        scored: ScoredTokens = self._model(**inputs, score=ScoreRequest(responses, mask, self._temperature))
        return scored.log_probs[_written(lessons, mask)]

    def _distributions(self, lessons: Sequence[Lesson]) -> TeacherTopK:
        """Return the distributions of the responses' tokens, lesson by lesson."""
        inputs, mask = self._inputs(lessons)
        kept = _written(lessons, mask)
        request = ScoreRequest(
            mask.long(), mask, self._temperature, reduce_to=self._k, reduced=kept, with_entropy=self._with_entropy
        )
        scored: ScoredTokens = self._model(**inputs, score=request)
        assert scored.details.record is not None
        return scored.details.record

    def _inputs(self, lessons: Sequence[Lesson]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the model's inputs for what it is shown + response, and the response mask [B, T].

        Prompts are padded on the left and responses on the right, so the response is the last T columns.
        """
        device = lessons[0].response_ids.device
        shown, images = [lesson.messages for lesson in lessons], [lesson.images for lesson in lessons]
        own = [lesson.turns.template for lesson in lessons]
        read = read_prompts(self._processor, shown, images, own, **self._template)
        in_responses = [bool(lesson.turns.images) for lesson in lessons]
        if any(in_responses):
            read |= read_images(self._processor, self._images_in_order(lessons))
        prompts = {name: value.to(device) for name, value in read.items()}
        responses = torch.nn.utils.rnn.pad_sequence([lesson.response_ids for lesson in lessons], batch_first=True)
        lengths = torch.tensor([len(lesson.response_ids) for lesson in lessons], device=device)
        mask = torch.arange(responses.size(1), device=device) < lengths.unsqueeze(1)
        inputs = dict(prompts)
        inputs["input_ids"] = torch.cat([prompts["input_ids"], responses], dim=1)
        inputs["attention_mask"] = torch.cat([prompts["attention_mask"], mask.long()], dim=1)
        config: Any = self._unwrapped.config
        token = image_token(config) if any(in_responses) else None
        shows = torch.zeros_like(mask) if token is None else responses == token
        shows &= torch.tensor(in_responses, device=device).unsqueeze(1)
        for name in TOKEN_TYPES:
            if name in inputs:
                inputs[name] = torch.cat([inputs[name], shows.to(inputs[name])], dim=1)
        return inputs, mask

    def _images_in_order(self, lessons: Sequence[Lesson]) -> list[Any]:
        """Return the images of each lesson's prompt and then of its turns, lesson by lesson."""
        found: list[Any] = []
        for lesson in lessons:
            found += images_in(formed(self._processor, lesson.messages, lesson.images))
            found += lesson.turns.images or ()
        return found


def _written(lessons: Sequence[Lesson], mask: Tensor) -> Tensor:
    """Return [B, T] bool, the tokens that students wrote, out of all that are no padding."""
    kept = mask.clone()
    for row, lesson in enumerate(lessons):
        if lesson.written is not None:
            kept[row, : len(lesson.written)] = lesson.written
    return kept
