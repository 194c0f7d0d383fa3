"""What a start model gains from each context before any training, and how far its teachers are from it."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptdpo.algo.divergence import full_divergence, topk_divergence
from ptdpo.data.files import write_problems
from ptdpo.data.prompts import conversation
from ptdpo.data.two_step import Puzzle
from ptdpo.evaluate.scoring import Scores, load_problems, score_file
from ptdpo.evaluate.settings import SamplingSettings
from ptdpo.evaluate.store import GradedResponse, ResponseStore
from ptdpo.folders import write_json
from ptdpo.models import load_model, load_processor
from ptdpo.models.loading import tokenizer_of
from ptdpo.study.lessons import INSTRUCTION, QUESTION, SHOWN, shown_text
from ptdpo.study.world import SHUFFLED, START, world_puzzles
from ptdpo.tutor.head import add_scoring_head
from ptdpo.tutor.teacher import Lesson, Teacher

# What the study's arms show to a teacher.
SHOWN_TO_TEACHERS = (*SHOWN, SHUFFLED)
GAINS_FILE = "gains.json"
_FORWARD = 32


@dataclass(frozen=True, slots=True)
class Asked:
    """How much is asked.

    Attributes:
        questions: of the validation split.
        samples: responses per question and context.
        max_new_tokens: longest response.
        k: of the Top-K divergence, as the study's arms have it.
    """

    questions: int = 80
    samples: int = 2
    max_new_tokens: int = 64
    k: int = 20


@dataclass(frozen=True, slots=True)
class Gain:
    """What one start model makes of one context.

    Attributes:
        shown: the context.
        accuracy: pass@1 with it.
        gain: pass@1 with it minus without, by question.
        divergence: JSD on the Top-K with tail, in nats per token, along failed rollouts of the question alone.
        kl: KL(context || question) over the whole vocabulary, likewise.
    """

    shown: str
    accuracy: float
    gain: Mapping[str, float]
    divergence: float
    kl: float


def measure_gains(folder: Path, world_folder: Path, world: int, asked: Asked) -> list[Gain]:
    """Ask a world's start model its validation questions alone and beside each context; writes gains.json.

    Args:
        folder: where the answers are kept; a second call goes on there.
        world_folder: the world, as ``make_world`` leaves it.
        world: its number.
        asked: how much.
    """
    puzzles = world_puzzles(world_folder / "data" / "images", world, "validation", asked.questions)
    texts = {shown: _texts(puzzles, shown) for shown in (QUESTION, *SHOWN_TO_TEACHERS)}
    start = world_folder / START
    scores = {shown: _ask(folder, start, shown, puzzles, texts[shown], world, asked) for shown in texts}
    failed = _failed(folder, puzzles)
    plain = scores[QUESTION].by_question
    distances = dict(_distances(start, puzzles, texts, failed, asked))
    gains = [
        Gain(
            shown,
            scores[shown].accuracy,
            {key: value - plain[key] for key, value in scores[shown].by_question.items()},
            *distances[shown],
        )
        for shown in SHOWN_TO_TEACHERS
    ]
    content = {"question": scores[QUESTION].accuracy, "by_question": dict(plain)}
    write_json(folder / GAINS_FILE, {**content, "gains": [asdict(gain) for gain in gains]})
    return gains


def read_gains(folder: Path) -> tuple[Mapping[str, float], list[Gain]]:
    """Return pass@1 of each question alone, and the gains, that ``measure_gains`` wrote to a folder."""
    content = json.loads((folder / GAINS_FILE).read_text(encoding="utf-8"))
    return content["by_question"], [Gain(**gain) for gain in content["gains"]]


def _texts(puzzles: Sequence[Puzzle], shown: str) -> list[str]:
    if shown != SHUFFLED:
        return [shown_text(puzzle, shown) for puzzle in puzzles]
    # Names come in turn, so the next puzzle has another one.
    others = [*puzzles[1:], puzzles[0]]
    misled = [replace(puzzle, rule=other.rule) for puzzle, other in zip(puzzles, others, strict=True)]
    return [shown_text(puzzle, "whole") for puzzle in misled]


def _ask(
    folder: Path, start: Path, shown: str, puzzles: Sequence[Puzzle], texts: Sequence[str], world: int, asked: Asked
) -> Scores:
    file = folder / f"{shown}.jsonl"
    write_problems(file, [replace(one.problem, problem=text) for one, text in zip(puzzles, texts, strict=True)])
    loaded = load_problems(file, shown, INSTRUCTION, folder)
    sampling = SamplingSettings(
        samples=asked.samples, max_new_tokens=asked.max_new_tokens, seed=world, batch_size=len(puzzles)
    )
    return score_file(folder / "answers" / shown, str(start), loaded, sampling)


def _failed(folder: Path, puzzles: Sequence[Puzzle]) -> list[tuple[int, GradedResponse]]:
    """Return the failed responses to the question alone, each with the number of its puzzle."""
    number = {puzzle.problem.id: n for n, puzzle in enumerate(puzzles)}
    responses = ResponseStore(folder / "answers" / QUESTION / QUESTION).read()
    return [(number[one.id], one) for one in responses if one.accuracy == 0 and one.response]


def _distances(
    start: Path,
    puzzles: Sequence[Puzzle],
    texts: Mapping[str, Sequence[str]],
    failed: Sequence[tuple[int, GradedResponse]],
    asked: Asked,
) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield for each context the mean divergence and KL along the failed responses."""
    model, processor = load_model(str(start)), load_processor(str(start))
    add_scoring_head(model)
    tokenizer = tokenizer_of(processor)
    ids = [torch.tensor(tokenizer(one.response, add_special_tokens=False)["input_ids"]) for _, one in failed]

    def read(shown: str) -> Tensor:
        shown_texts = [texts[shown][number] for number, _ in failed]
        images = [list(puzzles[number].problem.images) for number, _ in failed]
        lessons = [Lesson(conversation(t), i, r) for t, i, r in zip(shown_texts, images, ids, strict=True)]
        return _distributions(model, processor, lessons)

    plain = read(QUESTION)
    for shown in SHOWN_TO_TEACHERS:
        teacher = read(shown)
        divergence = topk_divergence(plain, teacher, k=asked.k).mean().item()
        yield shown, (divergence, full_divergence(plain, teacher, kind="forward_kl").mean().item())


def _distributions(model: Any, processor: Any, lessons: Sequence[Lesson]) -> Tensor:
    """Return [tokens, V], log-probabilities along all lessons."""
    vocabulary = model.get_output_embeddings().weight.size(0)
    teacher = Teacher(model, model, processor, micro_batch=_FORWARD, k=vocabulary)
    records = teacher.read(lessons, calls=teacher.calls_needed(len(lessons)), filler=lessons[0])
    dense = torch.full((sum(lesson.tokens for lesson in lessons), vocabulary), -math.inf)
    ids = torch.cat([record.ids for record in records])
    return dense.scatter(1, ids, torch.cat([record.log_probs.float() for record in records]))
