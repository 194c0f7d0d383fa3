"""A small sampling run for analyses: responses of a start model under each context, kept so that it can go on."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ptdpo.chat.store import repair_last_line
from ptdpo.data.contexts import CONTEXTS, Row
from ptdpo.data.rendering import formed
from ptdpo.folders import append_line, claim
from ptdpo.models.loading import tokenizer_of
from ptdpo.models.sampling import generate_batch
from ptdpo.rewards.functions import answered
from ptdpo.rewards.grading import grade_many
from ptdpo.tutor.context import images_of, privileged_prompt
from ptdpo.tutor.head import add_scoring_head
from ptdpo.tutor.teacher import Lesson, Teacher

QUESTION = "question"
# What a row alone can show; the question first, which shows nothing.
SAMPLED = (QUESTION, *sorted(name for name, one in CONTEXTS.items() if one.columns and not one.adaptive))


@dataclass(frozen=True, slots=True)
class Draws:
    """How much is sampled.

    Attributes:
        questions: the first so many of the data.
        samples: responses per question and context.
        max_new_tokens: where a response is cut.
        temperature: of sampling and scoring.
        seed: of the draws.
    """

    questions: int = 32
    samples: int = 8
    max_new_tokens: int = 256
    temperature: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Drawn:
    """The responses to one question under one context: texts, tokens and which are right."""

    id: str
    context: str
    texts: Sequence[str]
    tokens: Sequence[int]
    right: Sequence[bool]


class Sampler:
    """Draws and scores with a model in this process.

    Args:
        model: a causal or vision-language model.
        processor: its processor.
        rows: as ``rl_dataset`` makes them.
        draws: how much.
        folder: where what is drawn is kept; a second call goes on there.
        say: is told of each question.

    Raises:
        ValueError: if the folder was made with other settings.
    """

    def __init__(
        self, model: Any, processor: Any, rows: Sequence[Row], draws: Draws, folder: Path,
        sampled_from: Mapping[str, Any], say: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        claim(folder / "sampling.json", {**sampled_from, **asdict(draws)}, "choose another --out")
        self.rows = [rows[n] for n in range(min(draws.questions, len(rows)))]
        self._places = {str(row["id"]): place for place, row in enumerate(self.rows, start=1)}
        self._model, self._processor, self._draws, self._say = model, processor, draws, say
        self._file = folder / "samples.jsonl"
        repair_last_line(self._file)
        self._drawn = {(one.id, one.context): one for one in _read(self._file, draws.samples)}
        self._scores = False

    def draw(self, row: Row, context: str) -> Drawn | None:
        """Return the responses under a context, drawn now or before; ``None`` if the row lacks the context."""
        key = str(row["id"]), context
        if key not in self._drawn:
            prompt = privileged_prompt(row, context)
            if prompt is None:
                return None
            self._say(f"question {self._places.get(key[0], 0)} of {len(self.rows)}, {context}: {key[0]}")
            shown: Any = formed(self._processor, prompt, images_of(row))
            # A stream of its own for each question and context: a run that goes on draws the same.
            seed = hash_of(self._draws.seed, *key)
            settings = {"max_new_tokens": self._draws.max_new_tokens, "temperature": self._draws.temperature}
            found = generate_batch(self._model, self._processor, [shown] * self._draws.samples, seed=seed, **settings)
            asked = [row["answer"]] * len(found), [row["prompt"]] * len(found)
            verdicts = grade_many(answered([one.text for one in found], *asked))
            right = [verdict.accuracy == 1 for verdict in verdicts]
            drawn = Drawn(*key, [one.text for one in found], [one.tokens for one in found], right)
            append_line(self._file, json.dumps(asdict(drawn)))
            self._drawn[key] = drawn
        return self._drawn[key]

    def distributions(self, row: Row, context: str, response: Sequence[int]) -> torch.Tensor | None:
        """Return [t, V], the model's log-probabilities along a response under a context; ``None``: the row lacks it."""
        prompt = privileged_prompt(row, context)
        if prompt is None:
            return None
        if not self._scores:
            add_scoring_head(self._model)
            self._scores = True
        vocabulary = self._model.get_output_embeddings().weight.size(0)
        reads = {"micro_batch": 1, "k": vocabulary, "temperature": self._draws.temperature}
        teacher = Teacher(self._model, self._model, self._processor, **reads)
        ids = torch.tensor(list(response), device=self._model.device)
        lesson = Lesson(prompt, images_of(row), ids)
        (record,) = teacher.read([lesson], calls=1, filler=lesson)
        dense = torch.full((len(ids), vocabulary), -torch.inf, device=ids.device)
        return dense.scatter(1, record.ids, record.log_probs.float())

    @property
    def samples(self) -> int:
        """Return how many responses are drawn per question and context."""
        return self._draws.samples

    def text(self, token_id: int) -> str:
        """Return one token as text."""
        return str(tokenizer_of(self._processor).decode([token_id]))

    def ids(self, text: str) -> list[int]:
        """Return the ids of a response's text."""
        return tokenizer_of(self._processor)(text, add_special_tokens=False)["input_ids"][: self._draws.max_new_tokens]


def hash_of(seed: int, *names: str) -> int:
    """Return a seed below 2^31 that depends on the seed and the names, in every process alike."""
    return int(hashlib.sha256(json.dumps([seed, *names]).encode()).hexdigest()[:7], 16)


def _read(path: Path, samples: int) -> Iterator[Drawn]:
    """Yield what was drawn before; a line that is not whole, such as one that a kill cut, is drawn again."""
    if not path.exists():
        return
    kinds = {"texts": str, "tokens": int, "right": bool}
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
            drawn = Drawn(row["id"], row["context"], *(row[name] for name in kinds))
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
        lists = [isinstance(row[name], list) and len(row[name]) == samples for name in kinds]
        if all(lists) and all(type(value) is kind for name, kind in kinds.items() for value in row[name]):
            yield drawn
