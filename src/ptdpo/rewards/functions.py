"""The reward functions that trainers call: 0.9 accuracy + 0.1 format (Table 3)."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ptdpo.data.rows import as_text
from ptdpo.data.templates import EndlessTemplateError, apply_template
from ptdpo.folders import append_line
from ptdpo.records import Answered, Verdict
from ptdpo.rewards.choices import read_options
from ptdpo.rewards.extraction import UNFINISHED, follows_format
from ptdpo.rewards.grading import Mode, check_mode, grade_many

Completion = str | Sequence[dict[str, Any]]

ACCURACY_WEIGHT, FORMAT_WEIGHT = 0.9, 0.1
DISPUTES_FILE = "disputed_accuracy.jsonl"
# The other reader's verdict changes nothing: it may not hold up a step for long.
_OTHER_SECONDS = 5.0
_MOST_DISPUTES, _RESPONSE_TAIL = 10, 2000


def completion_text(completion: Completion) -> str:
    """Return the text of a completion, given as text or as chat messages."""
    if isinstance(completion, str):
        return completion
    return "".join(
        part if isinstance(part, str) else "".join(block.get("text", "") for block in part)
        for part in (message["content"] for message in completion)
    )


def accuracy_reward(
    completions: Sequence[Completion],
    answer: Sequence[str | float],
    prompts: Sequence[Completion] | None = None,
    **_: Any,
) -> list[float]:
    """Return 1.0 for each completion whose answer is right, else 0.0; see ``ptdpo.rewards.grade``.

    The options of a multiple-choice question are read from its prompt.

    Raises:
        ValueError: if an answer is empty, or neither a text nor a number.
    """
    return [verdict.accuracy for verdict in grade_many(answered(completions, answer, prompts))]


@dataclass
class GradedAccuracy:
    """The accuracy reward of a run: graded as its recipe says, with a second reader beside it.

    Logs ``disputed``: the share of rollouts that the reward calls wrong and the other grading right. A rising share
    says that right rollouts are sent to the teacher.

    Attributes:
        mode: how rollouts are graded; the other reader grades in the other mode.
        thinking_is_open: see ``grade_many``.
        disputes: JSONL file for the first ten such rollouts; ``None`` for none.
    """

    mode: Mode = "sound"
    thinking_is_open: bool = False
    disputes: Path | None = None
    _written: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Take the name under which TRL logs the reward and ``PTDConfig.accuracy_reward`` finds it.

        Raises:
            ValueError: if there is no such mode.
        """
        check_mode(self.mode)
        self.__name__ = accuracy_reward.__name__

    def __call__(
        self,
        completions: Sequence[Completion],
        answer: Sequence[str | float],
        prompts: Sequence[Completion] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **_: Any,
    ) -> list[float]:
        """Return 1.0 for each completion whose answer is right, else 0.0.

        Raises:
            ValueError: if an answer is empty, or neither a text nor a number.
        """
        items = answered(completions, answer, prompts)
        verdicts = grade_many(items, mode=self.mode, thinking_is_open=self.thinking_is_open)
        wrong = [(item, verdict) for item, verdict in zip(items, verdicts, strict=True) if not verdict.accuracy]
        other: Mode = "mathruler" if self.mode == "sound" else "sound"
        # Unfinished thinking is no matter of reading.
        asked = [pair for pair in wrong if pair[1].note != UNFINISHED]
        readers = grade_many([item for item, _ in asked], mode=other, batch_seconds=_OTHER_SECONDS)
        disputed = [(*pair, second) for pair, second in zip(asked, readers, strict=True) if second.accuracy]
        if log_metric is not None and items:
            log_metric("disputed", len(disputed) / len(items))
        self._write(disputed)
        return [verdict.accuracy for verdict in verdicts]

    def _write(self, disputed: Sequence[tuple[Answered, Verdict, Verdict]]) -> None:
        if self.disputes is None or os.environ.get("RANK", "0") != "0":
            return
        for item, verdict, second in disputed:
            key = (item.answer, verdict.extracted or "")
            if len(self._written) < _MOST_DISPUTES and key not in self._written:
                self._written.add(key)
                row = {
                    "answer": item.answer,
                    "extracted": verdict.extracted,
                    "graded": self.mode,
                    "right_to": second.mode,
                    "which_extracted": second.extracted,
                    "response": item.response[-_RESPONSE_TAIL:],
                }
                self.disputes.parent.mkdir(parents=True, exist_ok=True)
                append_line(self.disputes, json.dumps(row))


def default_rewards(mode: Mode = "sound", processor: Any = None, disputes: Path | None = None) -> list[Any]:
    """Return the accuracy and format rewards of a run; their weights are ``ACCURACY_WEIGHT`` and ``FORMAT_WEIGHT``.

    Args:
        mode: how accuracy is graded.
        processor: its chat template says whether prompts end with <think>; ``None`` if that is not known.
        disputes: see ``GradedAccuracy``.
    """
    return [GradedAccuracy(mode, opens_thinking(processor), disputes), format_reward]


def opens_thinking(processor: Any) -> bool:
    """Return whether prompts end with <think>: then a response without </think> never stops thinking."""
    if not getattr(processor, "chat_template", None):
        return False
    asked: list[Any] = [[{"type": "text", "text": "?"}], "?"]
    for content in asked:
        try:
            messages = [{"role": "user", "content": content}]
            prompt = apply_template(processor, messages)
        except EndlessTemplateError:
            raise
        except Exception:
            # A template may raise anything on content that it does not know.
            continue
        return str(prompt).rstrip().endswith("<think>")
    return False


def answered(
    completions: Sequence[Completion], answer: Sequence[str | float], prompts: Sequence[Completion] | None
) -> list[Answered]:
    """Return completions with their expected answers and the options that their prompts list, for ``grade_many``.

    Raises:
        ValueError: if an answer is neither a text nor a number.
    """
    # Users' own data sets also hold answers as numbers.
    expected = [as_text(one, "answer", "training data") for one in answer]
    asked = [""] * len(completions) if prompts is None else [_question(prompt) for prompt in prompts]
    return [
        Answered(completion_text(completion), right, _options(question))
        for completion, right, question in zip(completions, expected, asked, strict=True)
    ]


def format_reward(completions: Sequence[Completion], **_: Any) -> list[float]:
    """Return 1.0 for each completion that thinks once and boxes an answer after it, else 0.0."""
    return [float(follows_format(completion_text(c), prompt_opens_think=True)) for c in completions]


def _question(prompt: Completion) -> str:
    """Return what the user said last."""
    if isinstance(prompt, str):
        return prompt
    asked = [message for message in prompt if message.get("role") == "user"]
    return completion_text(asked[-1:])


@lru_cache(maxsize=1024)
def _options(question: str) -> tuple[str, ...]:
    return read_options(question)
