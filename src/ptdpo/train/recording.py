"""What a run keeps of its rollouts: groups when they are prepared, tokens when they are trained on."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ptdpo.algo.teacher_topk import TeacherTopK
from ptdpo.data.contexts import Row, context_named, hint_texts
from ptdpo.data.prompts import IMAGE_MARKER, Prompt, placed_text, written_parts
from ptdpo.data.teacher_images import ImagesShown, view_of
from ptdpo.rewards.fallbacks import find_answer
from ptdpo.runlog.lines import LEADING, GroupLine, Leading, Line, QuestionLine, RolloutLine, TokenLine
from ptdpo.train.engine import Engine, Kept, MicroBatch, RolloutBatch
from ptdpo.train.method_settings import RecordSettings
from ptdpo.tutor.context import images_of, privileged_prompt
from ptdpo.tutor.head import ScoreDetails

OFF = "off"


@dataclass(frozen=True, slots=True)
class Drawn:
    """Which responses of a batch were not drawn by the policy from the question alone.

    Attributes:
        replaced: right ones, drawn under the teacher's context, that take the place of the batch's.
        hinted: those in the batch that were drawn with a hint, and with which of its levels.
        levels: of the hints that the teacher read along the others, where it has several.
    """

    replaced: Mapping[int, Sequence[int]] = field(default_factory=dict)
    hinted: Mapping[int, int] = field(default_factory=dict)
    levels: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The question that a rollout answers."""

    id: str
    hint_id: str
    hint: str


@dataclass(frozen=True, slots=True)
class Reads:
    """What is read besides the question: its context, empty for none, and which images are seen."""

    context: str = ""
    images: ImagesShown = "question"


class Recorder:
    """Keeps the first groups of each batch of rollouts, and the first of their rollouts token by token.

    The data is shuffled, so the first groups of a batch are a sample. Nothing is drawn at random here: a run that
    keeps records makes the same steps as one that does not.

    Args:
        engine: writes the lines.
        settings: how much is kept.
        reads: what the teacher, or in its place the policy, is shown besides the question.
    """

    def __init__(self, engine: Engine, settings: RecordSettings, reads: Reads = Reads()) -> None:
        self._engine, self._settings, self._reads = engine, settings, reads
        self._questions: set[tuple[str, str]] = set()
        self._texts: dict[int, str] = {}
        self._written: set[tuple[int, int, int]] = set()

    def batch(
        self,
        batch: RolloutBatch,
        advantages: Tensor,
        reasons: Sequence[str],
        drawn: Drawn = Drawn(),
    ) -> list[Kept | None]:
        """Write the groups of a batch; return for each rollout how its tokens are named, ``None``: not kept.

        Args:
            batch: graded.
            advantages: [rows], with which they are trained.
            reasons: why each is tutored or not, see ``RolloutLine``.
            drawn: which responses the policy did not draw from the question alone.
        """
        step = self._engine.step + 1
        kept: list[Kept | None] = [None] * len(batch.rows)
        if (step - 1) % self._settings.steps:
            return kept
        groups = batch.groups.of_rows()
        rows = [row for row, group in enumerate(groups) if group < self._settings.groups]
        if not rows:
            return kept
        lines = self._rollouts(batch, rows, advantages, reasons)
        for row in set(drawn.hinted) & set(rows):
            lines[row] = replace(lines[row], drawn_with=f"hint {drawn.hinted[row]}")
        for row in set(drawn.levels) & set(rows):
            lines[row] = replace(lines[row], hint_level=drawn.levels[row])
        for row in set(drawn.replaced) & set(rows):
            lines[row] = self._drawn(lines[row], drawn.replaced[row])
        self._written.clear()
        written: list[Line] = []
        for group in dict.fromkeys(groups[row] for row in rows):
            own = [row for row in rows if groups[row] == group]
            # The prompt of a hinted row may be the hinted one.
            plain = next((row for row in own if row not in drawn.hinted), own[0])
            asked = self._question(step, batch.rows[plain], written)
            written.append(GroupLine(step, group, asked.id, asked.hint_id, batch.reader, [lines[row] for row in own]))
        self._engine.record(written)
        left = self._settings.tokens
        for row in _in_turn(rows, groups, reasons):
            left -= lines[row].tokens
            if left < 0:
                break
            kept[row] = Kept(step, lines[row].rollout)
        return kept

    def tokens(self, micro: MicroBatch, log_probs: Tensor, details: ScoreDetails) -> None:
        """Write the rollouts of a micro-batch whose tokens are kept, once.

        Args:
            micro: what is trained on.
            log_probs: [B, T].
            details: with the divergence of what the teacher read, if it is known, and ``leading`` of the positions
                of ``leading_positions``.
        """
        named = [None if record.kept is None else record.kept.key(record.group) for record in micro.records]
        due = [row for row, key in enumerate(named) if key is not None and key not in self._written]
        if not due or micro.share == 0:
            return
        # From the device once, not row by row.
        mask, ids = micro.response_mask.cpu(), micro.response_ids.cpu()
        log_probs = log_probs.detach().float().cpu()
        entropy = torch.zeros_like(log_probs) if details.entropy is None else details.entropy.detach().float().cpu()
        divergences = _by_row(_cpu(details.divergence), [record.reading.tokens for record in micro.records])
        sizes = [int(size) if key else 0 for size, key in zip(mask.sum(dim=1), named, strict=True)]
        leading = _by_row(None if details.leading is None else details.leading.to("cpu"), sizes)
        lines: list[Line] = []
        for row in due:
            key, of_row = named[row], mask[row]
            assert key is not None
            self._written.add(key)
            own = ids[row][of_row].tolist()
            student, teacher = _leading(leading[row]), _leading(micro.records[row].reading.teacher)
            line = TokenLine(
                self._engine.step + 1,
                *key,
                own,
                _rounded(log_probs[row][of_row]),
                _rounded(entropy[row][of_row]),
                None if divergences[row] is None else _rounded(divergences[row]),
                student,
                teacher,
                self._texts_of(own, student, teacher),
            )
            lines.append(line)
        self._engine.record(lines)

    # -- parts of lines ----------------------------------------------------------------------------------------

    def _rollouts(
        self, batch: RolloutBatch, rows: Sequence[int], advantages: Tensor, reasons: Sequence[str]
    ) -> dict[int, RolloutLine]:
        texts = self._engine.texts(batch.response_ids[rows])
        accuracy = batch.groups.mine(batch.groups.accuracy).tolist()
        weights, generations = advantages.tolist(), batch.groups.generations
        lengths = batch.response_mask.sum(dim=1).tolist()
        lines = {}
        for row, text in zip(rows, texts, strict=True):
            found = find_answer(text)
            lines[row] = RolloutLine(
                rollout=(batch.groups.first_row + row) % generations,
                response=text,
                tokens=lengths[row],
                reward=None if batch.rewards is None else _number(batch.rewards[row].item()),
                accuracy=_number(accuracy[row]),
                extracted=found.text or None,
                advantage=_number(weights[row]),
                reason=reasons[row],
                place=found.place,
            )
        return lines

    def _drawn(self, line: RolloutLine, ids: Sequence[int]) -> RolloutLine:
        text = self._engine.texts(torch.tensor([list(ids)]))[0]
        found = find_answer(text)
        changes = {"extracted": found.text or None, "place": found.place, "drawn_with": self._reads.context}
        return replace(line, response=text, tokens=len(ids), accuracy=1.0, **changes)

    def _question(self, step: int, row: Row, written: list[Line]) -> _Asked:
        question = asked_text(row["prompt"])
        answer = "" if row.get("answer") is None else str(row["answer"])
        images, name = None, "" if row.get("id") is None else str(row["id"])
        if not name:
            # Data without ids: questions are told apart by what they hold.
            images = self._engine.keep_images(images_of(row))
            name = f"#{_digits(json.dumps([question, answer, *images]))}"
        asked = _asked(name, row, self._reads.context)
        if (asked.id, asked.hint_id) not in self._questions:
            self._questions.add((asked.id, asked.hint_id))
            own = images_of(row)
            images = self._engine.keep_images(own) if images is None else images
            seen = [] if self._reads.images == "question" else view_of(own, row, self._reads.images) or []
            shown = self._reads.context, asked.hint, images, self._engine.keep_images(seen)
            written.append(QuestionLine(step, asked.id, asked.hint_id, question, answer, *shown))
        return asked

    def _texts_of(self, ids: Sequence[int], *leading: Leading | None) -> dict[str, str]:
        shown = {*ids, *(one for each in leading if each is not None for five in each.ids for one in five)}
        for one in shown - self._texts.keys():
            self._texts[one] = self._engine.token(one)
        return {str(one): self._texts[one] for one in sorted(shown)}


def leading_positions(micro: MicroBatch) -> Tensor | None:
    """Return [B, T] bool, where leading tokens are wanted; ``None``: nowhere."""
    rows = [record.kept is not None for record in micro.records]
    if not any(rows):
        return None
    return torch.tensor(rows, device=micro.response_mask.device).unsqueeze(1) & micro.response_mask


def asked_text(prompt: Prompt) -> str:
    """Return the last user message of a prompt as text, a marker at each image unless all come first."""
    return placed_text(prompt_text(prompt, IMAGE_MARKER))


def prompt_text(prompt: Prompt, image: str = "") -> str:
    """Return the last user message of a prompt as text, with ``image`` in the place of each image."""
    if isinstance(prompt, str):
        return prompt
    content = next((m["content"] for m in reversed(prompt) if m["role"] == "user"), "")
    if isinstance(content, str):
        return content
    shown = {"text": lambda part: part["text"], "image": lambda _: image}
    return "".join(shown[part["type"]](part) for part in written_parts(content) if part["type"] in shown)


def _asked(name: str, row: Row, context: str) -> _Asked:
    hint = ""
    if context and context_named(context).columns:
        prompt = privileged_prompt(row, context)
        own = row.get("hint") if context_named(context).holds("hint") else None
        if context_named(context).adaptive and row.get("hints"):
            # Numbered as ``hint_level`` counts: texts that say nothing are no level.
            hint = "\n".join(f"{level}: {text}" for level, text in enumerate(hint_texts(row), start=1))
        elif isinstance(own, Mapping) and own.get("look"):
            hint = f"Look: {own['look']}\nReason: {own.get('reason', '')}"
        elif prompt is not None:
            hint = own if isinstance(own, str) and own else prompt_text(prompt)
    return _Asked(name, _digits(hint) if hint else "", hint)


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _in_turn(rows: Sequence[int], groups: Sequence[int], reasons: Sequence[str]) -> list[int]:
    """Return rows so that any first few hold tutored and other rollouts of several groups."""
    seen: dict[tuple[int, bool], int] = {}
    order = []
    for row in rows:
        kind = groups[row], reasons[row] == "tutored"
        seen[kind] = seen.get(kind, 0) + 1
        order.append((seen[kind], not kind[1], row))
    return [row for *_, row in sorted(order)]


def _by_row(values: "Tensor | TeacherTopK | None", sizes: Sequence[int]) -> list:
    """Return the part of each row of what there is row by row; ``None`` where there is none."""
    if values is None or len(values) != sum(sizes):
        return [None] * len(sizes)
    parts, start = [], 0
    for size in sizes:
        parts.append(values[start : start + size] if size else None)
        start += size
    return parts


def _cpu(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.detach().float().cpu()


def _leading(top: TeacherTopK | None) -> Leading | None:
    if top is None:
        return None
    probs = top.log_probs[:, :LEADING].double().exp().round(decimals=4)
    return Leading(top.ids[:, :LEADING].tolist(), probs.tolist())


def _rounded(values: Tensor) -> list[float]:
    # Six digits behind the point of a nat; NaN is no JSON.
    return values.double().nan_to_num(0.0, 0.0, 0.0).round(decimals=6).tolist()


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
