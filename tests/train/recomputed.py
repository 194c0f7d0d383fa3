"""The steps of a watched run, recomputed in float64 by ``tests/reference/objective.py``."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch

from ptdpo.models import load_model, load_processor
from tests.reference import objective as reference
from tests.reference.objective import Reader
from tests.reference.records import Objective, Question, Row, Step, Weights
from tests.train.watched_run import GENERATION, LONGEST, TEMPERATURE, TOLD, WINDOW, Accuracy, Watched


class Recomputed:
    """The steps of a run, from what it sampled."""

    def __init__(self, objective: Objective, start, expert, questions, watched: Watched, accuracy: Accuracy):
        self.objective, self.questions, self.watched, self.accuracy = objective, questions, watched, accuracy
        self.processor, self.exchanged = load_processor(start), 0
        self.weights_seen: list[float] = []
        self.read = Reader(self.processor, TEMPERATURE)
        self.start, self.expert = load_model(start).double(), load_model(expert).double()
        # Copies share their configurations: copying those takes longer than the rest of a tiny model.
        self.shared = {id(m.config): m.config for m in self.start.modules() if hasattr(m, "config")}

    def model(self, weights) -> torch.nn.Module:
        model = copy.deepcopy(self.start, dict(self.shared))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights[name])
        return model

    def step(self, number: int) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
        """Return the terms of the step's micro-batches, and the gradient of each term as one vector."""
        per_generation = GENERATION // WINDOW
        generation = number // per_generation
        sampled = generation * per_generation
        policy, old = self.model(self.watched.weights[number]), self.model(self.watched.weights[sampled])
        weights = Weights(policy, old, self.start, self._teacher(sampled))
        first = generation * GENERATION
        batches = [self._rows(batch, generation) for batch, _ in self.watched.batches[first : first + GENERATION]]
        batches = self._weighed(batches, weights.teacher)
        mine = batches[number * WINDOW - first :][:WINDOW]
        # DAPO divides by the tokens of the mean step of the generation; the tutored tokens are those of this one.
        responses = sum(len(row.response) for rows in batches for row in rows) / per_generation
        own = sum(len(row.response) for rows in mine for row in rows)
        tutored = sum(len(row.response) for rows in mine for row in rows if row.tutored)
        parameters = list(policy.parameters())
        gradients: dict[str, torch.Tensor] = {}
        shares = []
        for rows in mine:
            compared = own if self.objective.mean_of_all else tutored
            step = Step(WINDOW, responses, compared, self._mean_weight(mine, weights))
            step = replace(step, **self._scales(mine, weights, responses))
            terms = reference.micro_batch(self.objective, rows, weights, self.read, step)
            shares.append({name: value.item() for name, value in terms.items()})
            for name, value in terms.items():
                if value.requires_grad:
                    found = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
                    flat = torch.cat([gradient.flatten() for gradient in found])
                    gradients[name] = gradients.get(name, 0) + flat
        return shares, gradients

    def _mean_weight(self, batches: list[list[Row]], weights: Weights) -> float:
        """Return the mean weight of the step's tutored tokens where weights are divided by it."""
        if not self.objective.normalised:
            return 1.0
        found = []
        for row in (row for rows in batches for row in rows if row.tutored):
            shown = reference.teacher_text(row, self.objective.context)
            seen = reference.teacher_sees(row, self.objective)
            sides = (weights.policy, row.question.text, row.question.image), (weights.teacher, shown, seen)
            read = [self.read.without_gradient(*side, row.response) for side in sides]
            found += reference.gate(self.objective, row, *read).tolist()
        return sum(found) / len(found)

    def _weighed(self, batches: list[list[Row]], teacher: torch.nn.Module) -> list[list[Row]]:
        """Return the rows of a generation with their weights by evidence, group by group."""
        if not self.objective.evidence_gate:
            return batches
        groups: dict[str, list[Row]] = {}
        for row in (row for rows in batches for row in rows if row.tutored):
            groups.setdefault(row.question.text, []).append(row)
        weights = {}
        for rows in groups.values():
            evidence = (reference.evidence_of(self.objective, row, teacher, self.read) for row in rows)
            found = reference.evidence_weights(
                self.objective, [reference.evidence_score(self.objective, one) for one in evidence]
            )
            weights |= {id(row): weight for row, weight in zip(rows, found, strict=True)}
            self.weights_seen += found
        return [[replace(row, weight=weights.get(id(row), 1.0)) for row in rows] for rows in batches]

    def _scales(self, batches: list[list[Row]], weights: Weights, divisor: float) -> dict[str, float]:
        """Return what makes means of their own of the step's tokens whose advantage moves, and of the others."""
        if not self.objective.shift_apart:
            return {}
        moved = 0
        for row in (row for rows in batches for row in rows if row.tutored):
            evidence = reference.evidence_of(self.objective, row, weights.teacher, self.read)
            moved += int((reference.moves_of(self.objective, evidence) != 0).sum())
        others = sum(len(row.response) for rows in batches for row in rows if row.tutored) - moved
        return {name: divisor / count for name, count in (("moved_scale", moved), ("unmoved_scale", others)) if count}

    def _teacher(self, sampled: int) -> torch.nn.Module:
        """Return the teacher as it was when the rollouts of a generation were made, before step ``sampled``."""
        if self.objective.teacher == "expert":
            return self.expert
        if self.objective.teacher == "current":
            return self.model(self.watched.weights[sampled])
        average = {name: p.detach().clone() for name, p in self.start.named_parameters()}
        if self.objective.teacher == "average":
            for number, weights in enumerate(self.watched.weights[1 : sampled + 1], start=1):
                for name in average if number % self.objective.average_interval == 0 else ():
                    average[name] += self.objective.average_rate * (weights[name].double() - average[name])
        return self.model(average)

    def _rows(self, batch: dict, generation: int) -> list[Row]:
        texts = self.processor.tokenizer.batch_decode(batch["prompt_ids"], skip_special_tokens=True)
        return [
            self._row(text, tuple(ids[mask.bool()].tolist()), generation)
            for text, ids, mask in zip(texts, batch["completion_ids"], batch["completion_mask"], strict=True)
        ]

    def _row(self, text: str, response: tuple[int, ...], generation: int) -> Row:
        (name,) = [name for name, question in self.questions.items() if question.text in text]
        group, right = zip(*self.accuracy.own[generation][name], strict=True)
        objective, question = self.objective, self.questions[name]
        penalties = [reference.overlong_penalty(len(ids), LONGEST, objective.overlong) for ids in group]
        rewards = [a + b for a, b in zip(right, penalties, strict=True)]
        if objective.tutored == "all_fail_groups":
            return self._exchanged(name, response, generation, rewards, right)
        member = group.index(response)
        assert objective.context != "sibling" or len(set(group)) == len(group), "the seed gives different responses"
        # A response of special tokens alone says nothing.
        sibling = next(iter(self._siblings(group, right, member, wanted=1.0)), "")
        wrong = self._siblings(group, right, member, wanted=0.0)[: objective.contrasts]
        told = {"question": True, "sibling": bool(sibling)}.get(objective.context, TOLD[int(name) % 4])
        contrasts = self._contrasts(question, wrong, sibling)
        if objective.contrast != "none":
            told = told and bool(contrasts)
        if objective.images != "question":
            told = told and question.teacher_image is not None
        chosen = [told and reference.is_tutored(right, n, objective.tutored) for n in range(len(group))]
        if not objective.weight:
            chosen = [False] * len(group)
        advantage = reference.advantages(rewards, objective)[member]
        asked = self._asked(question, response, name, generation)
        row = Row(question, response, advantage, chosen[member], any(chosen), sibling, contrasts, asked)
        return replace(row, hint=question.told.get("chosen", ""))

    def _asked(self, question: Question, response: tuple[int, ...], name: str, generation: int) -> str:
        """Return under which text a response is scored."""
        drawn = dict(self.accuracy.drawn[generation].get(name, ())) if self.objective.hinted else {}
        if not drawn.get(response):
            return question.text
        self.exchanged += 1
        return (
            question.text if self.objective.hinted == "question" else f"{question.text}\n\n{question.told['vaguest']}"
        )

    def _siblings(
        self, group: Sequence[tuple[int, ...]], right: Sequence[float], member: int, wanted: float
    ) -> list[str]:
        """Return the texts of the right, or wrong, others of a group, the next one first."""
        others = [(member + step) % len(group) for step in range(1, len(group))]
        texts = [
            self.processor.tokenizer.decode(group[other], skip_special_tokens=True)
            for other in others
            if right[other] == wanted
        ]
        return [text.split("</think>")[-1].strip() for text in texts]

    def _contrasts(self, question: Question, wrong: Sequence[str], sibling: str) -> tuple[str, ...]:
        """Return what the teacher reads to be contrasted with its context."""
        if self.objective.contrast == "failed_siblings":
            return tuple(question.text + reference.TOLD[self.objective.context].format(text) for text in wrong if text)
        if self.objective.contrast == "images" and question.contrast_image is not None:
            row = Row(question, (), 0.0, True, True, sibling)
            return (reference.teacher_text(row, self.objective.context),)
        return (question.text,) if self.objective.contrast == "question" else ()

    def _exchanged(self, name, response, generation, rewards, right) -> Row:
        """HDPO: in groups that all fail, right responses drawn under the context stand in the place of the policy's."""
        group = [ids for ids, _ in self.accuracy.own[generation][name]]
        drawn = self.accuracy.drawn[generation].get(name, [])
        taken = {ids for ids, good in drawn if good}
        assert not taken & set(group), "the seed draws responses that are not the policy's own"
        exchanged = not any(right) and response in taken
        own = 0.0 if exchanged else reference.advantages(rewards, self.objective)[group.index(response)]
        return Row(self.questions[name], response, own, exchanged, exchanged)
