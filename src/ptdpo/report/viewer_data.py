"""The rollouts of a report's viewer, as small as they can be: a sample of the records within a budget."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ptdpo.data.prompts import IMAGE_MARKER, interleave_images
from ptdpo.report.run_view import RunView, spread
from ptdpo.runlog import GroupLine, Leading, RolloutLine, TokenLine

# Of the page's five megabytes.
TEXT_BUDGET, IMAGE_BUDGET = 3_000_000, 1_200_000
# Responses are shown up to here.
MOST_CHARACTERS, MOST_TOKENS = 4_000, 2_000


@dataclass
class ViewerData:
    """What the viewer shows, filled group by group; indices point into the lists.

    Attributes:
        groups: of all runs.
        questions: with hints; their parts are texts, and the numbers of the images between them.
        images: data URLs; ``None``: a file that is missing or did not fit.
        texts: of each run, the text of each token id.
        left_out: recorded groups that did not fit.
    """

    groups: list[dict[str, Any]] = field(default_factory=list)
    questions: list[dict[str, Any]] = field(default_factory=list)
    images: list[str | None] = field(default_factory=list)
    texts: list[dict[str, str]] = field(default_factory=list)
    left_out: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the content as JSON has it."""
        names = ("groups", "questions", "images", "texts", "left_out")
        return {name: getattr(self, name) for name in names}


def viewer_data(runs: Sequence[RunView], budget: int = TEXT_BUDGET, image_budget: int = IMAGE_BUDGET) -> ViewerData:
    """Return a sample of the runs' groups, each run with its share of the budgets, spread over its steps."""
    data = ViewerData()
    for number, run in enumerate(runs):
        data.texts.append({})
        _Filling(data, number, run, budget // len(runs), image_budget // len(runs)).fill()
    data.groups.sort(key=lambda group: (group["run"], group["step"], group["group"]))
    return data


class _Filling:
    """Adds the groups of one run."""

    def __init__(self, data: ViewerData, number: int, run: RunView, budget: int, image_budget: int) -> None:
        self._data, self._number, self._run = data, number, run
        self._room, self._image_room = budget, image_budget
        self._questions: dict[tuple[str, str], int] = {}
        self._images: dict[str, int] = {}

    def fill(self) -> None:
        """Add groups until the room is used up; those with a rollout token by token come first."""
        records = self._run.records
        keys = list(records.groups)
        told = {(sampled, group) for sampled, group, _ in records.tokens}
        order = [keys[place] for place in spread(len(keys))]
        order.sort(key=lambda key: key not in told)
        for place, key in enumerate(order):
            shown = self._group(records.groups[key])
            self._room -= len(json.dumps(shown))
            if self._room < 0 and place:
                self._data.left_out += len(order) - place
                break
            shown["question"] = self._question(records.groups[key])
            self._data.groups.append(shown)

    def _group(self, group: GroupLine) -> dict[str, Any]:
        rollouts = [self._rollout(group, one) for one in group.rollouts]
        return {"run": self._number, "step": group.step, "group": group.group, "id": group.id[:200],
                "reader": group.reader, "rollouts": rollouts}  # fmt: skip

    def _rollout(self, group: GroupLine, line: RolloutLine) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "n": line.rollout, "size": line.tokens, "reward": line.reward, "accuracy": line.accuracy,
            "advantage": line.advantage, "reason": line.reason, "place": line.place, "drawn": line.drawn_with,
            "extracted": None if line.extracted is None else line.extracted[:200],
        }  # fmt: skip
        tokens = self._run.records.tokens.get((group.step, group.group, line.rollout))
        if tokens is not None:
            shown["tokens"] = self._tokens(tokens)
        shown["text"] = line.response[:MOST_CHARACTERS]
        if len(line.response) > MOST_CHARACTERS:
            shown["cut"] = len(line.response) - MOST_CHARACTERS
        return shown

    def _tokens(self, line: TokenLine) -> dict[str, Any]:
        texts = self._data.texts[self._number]
        for one, text in line.texts.items():
            if one not in texts:
                texts[one] = text[:100]
                self._room -= len(text[:100]) + 12
        shown: dict[str, Any] = {"step": line.step, "ids": list(line.ids[:MOST_TOKENS])}
        if len(line.ids) > MOST_TOKENS:
            shown["cut"] = len(line.ids) - MOST_TOKENS
        for name, values in (("log_probs", line.log_probs), ("entropy", line.entropy), ("divergence", line.divergence)):
            shown[name] = None if values is None else [round(value, 4) for value in values[:MOST_TOKENS]]
        shown["student"], shown["teacher"] = _leading(line.student), _leading(line.teacher)
        return shown

    def _question(self, group: GroupLine) -> int | None:
        question = self._run.records.question_of(group)
        if question is None:
            return None
        key = question.id, question.hint_id
        if key not in self._questions:
            self._questions[key] = len(self._data.questions)
            shown = {
                "parts": _parts(question.question, [self._image(name) for name in question.images]),
                "answer": question.answer[:MOST_CHARACTERS],
                "seen": [self._image(name) for name in question.teacher_images],
                "context": question.context, "hint": question.hint[:MOST_CHARACTERS], "hint_id": question.hint_id,
            }  # fmt: skip
            self._room -= len(json.dumps(shown))
            self._data.questions.append(shown)
        return self._questions[key]

    def _image(self, name: str) -> int:
        if name not in self._images:
            path, url = self._run.records.image(name), None
            if path is not None and path.stat().st_size * 4 / 3 <= self._image_room:
                url = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
                self._image_room -= len(url)
            self._images[name] = len(self._data.images)
            self._data.images.append(url)
        return self._images[name]


def _parts(text: str, images: list[int]) -> list[str | int]:
    """Return a question as texts with the numbers of its images between them."""
    mixed = interleave_images(text, images) if text.count(IMAGE_MARKER) == len(images) else [*images, text]
    shown: list[str | int] = []
    room = MOST_CHARACTERS
    for part in mixed:
        if isinstance(part, str):
            part, room = part[:room], max(0, room - len(part))
        shown.append(part)
    return shown


def _leading(leading: Leading | None) -> list[list[list[float]]] | None:
    if leading is None:
        return None
    pairs = zip(leading.ids[:MOST_TOKENS], leading.probs[:MOST_TOKENS], strict=False)
    return [[list(ids), [round(prob, 3) for prob in probs]] for ids, probs in pairs]
