"""Every loss term of every preset, by value and by sign: what a run's micro-batches and steps were, recomputed.

The policy samples at temperature 0.7, K is smaller than the vocabulary, responses differ in length, a step has two
micro-batches and a generation two steps; half of the groups are tutored. The reference is
``tests/reference/objective.py``.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch
from PIL import Image
from transformers import TrainerCallback

from ptdpo.data.dataset import rl_dataset
from ptdpo.models import load_model, load_processor
from ptdpo.presets import PRESETS, SFT
from ptdpo.train import PTDConfig, PTDTrainer
from tests.reference import objective as reference
from tests.reference.objective import Objective, Question, Reader, Row, Step, Weights
from tests.train.helpers import SGD, small_settings

GROUP, GROUPS, STEPS, LONGEST, TEMPERATURE = 2, 8, 4, 8, 0.7
# The first step is on the policy; the second is off it, the third follows a second generation.
CHECKED = (1, 2)
# Of the norm of a step's gradient; float32 gives 1e-6, seldom 1e-5.
TOLERANCE = 5e-5
WINDOW, GENERATION = 2, 4
SETTINGS = {
    **SGD,
    "learning_rate": 2e-3,
    "max_steps": STEPS,
    "num_generations": GROUP,
    "per_device_train_batch_size": GROUP * GROUPS // GENERATION,
    "gradient_accumulation_steps": WINDOW,
    "steps_per_generation": GENERATION,
    "max_completion_length": LONGEST,
    "temperature": TEMPERATURE,
    "resampling_rounds": 0,
    "record_steps": 0,
    "perception_mask_share": 1.0,
}
# Right or wrong by kind of problem; only the first two kinds have a hint and a solution.
PATTERNS = ((0, 0), (1, 0), (0, 1), (1, 1))
TOLD = (True, True, False, False)


class Accuracy:
    """Right by problem and place in the group, and a record of what was asked: generation by generation."""

    __name__ = "accuracy_reward"

    def __init__(self):
        self.own: list[dict[str, list]] = []
        self.drawn: list[dict[str, list]] = []

    def __call__(self, completion_ids, id, **_):
        whole = len(id) == GROUP * GROUPS
        asked: dict[str, list] = {}
        for name, ids in zip(id, completion_ids, strict=True):
            members = asked.setdefault(name, [])
            # Drawn under the teacher's context: all but one are right.
            right = PATTERNS[int(name) % 4][len(members)] if whole else len(members) != 1
            same = dict(members).get(tuple(ids), float(right))
            members.append((tuple(ids), same))
        (self.own if whole else self.drawn).append(asked)
        # A group's rows stand next to each other.
        return [right for members in asked.values() for _, right in members]


@dataclass
class Watched:
    """What a run did: weights at the start of each step, micro-batches with their losses, gradients of steps."""

    weights: list[dict] = field(default_factory=list)
    batches: list[tuple[dict, float]] = field(default_factory=list)
    gradients: list[dict] = field(default_factory=list)


class WatchedTrainer(PTDTrainer):
    """Writes down the losses that TRL's public hook returns."""

    watched: Watched

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if len(self.watched.batches) % WINDOW == 0:
            self.watched.weights.append(_copies(model))
        kept = {name: inputs[name] for name in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")}
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self.watched.batches.append((kept, loss.item()))
        return loss


class Gradients(TrainerCallback):
    def __init__(self, watched):
        self.watched = watched

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.watched.gradients.append({n: p.grad.detach().double().clone() for n, p in model.named_parameters()})


def _copies(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.fixture(scope="module")
def start(tiny_path, processor, tmp_path_factory):
    """The tiny model, less sure of itself."""
    return _saved(tiny_path, processor, tmp_path_factory.mktemp("start"), noise=0.0)


@pytest.fixture(scope="module")
def expert(start, processor, tmp_path_factory):
    return _saved(start, processor, tmp_path_factory.mktemp("expert"), noise=0.05)


def _saved(path, processor, folder, noise):
    model = load_model(path)
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if noise:
                parameter.add_(noise * torch.randn(parameter.shape, generator=draws))
            elif "embed_tokens" in name:
                parameter.mul_(0.6)
    # Any of many tokens ends a response, which so has any length.
    ordinary = range(100, len(processor.tokenizer), 9)
    model.generation_config.eos_token_id = [processor.tokenizer.eos_token_id, *ordinary]
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def problems(scenes):
    """Eight problems, two of each kind; every question is told from the others by its text."""
    chosen = [replace(s.problem, id=str(n), problem=f"{s.problem.problem} ({n})") for n, s in enumerate(scenes[:8])]
    hints = {p.id: s.hint for p, s in zip(chosen, scenes, strict=False) if TOLD[int(p.id) % 4]}
    solutions = {p.id: s.solution.response for p, s in zip(chosen, scenes, strict=False) if TOLD[int(p.id) % 4]}
    return chosen, hints, solutions


@pytest.fixture(scope="module")
def questions(problems):
    chosen, hints, solutions = problems
    found = {}
    for problem in chosen:
        hint = hints.get(problem.id)
        told = {"answer": problem.answer, "solution": solutions.get(problem.id, "")}
        told["hint"] = f"Hint. Look: {hint.look}\nReason: {hint.reason}" if hint else ""
        found[problem.id] = Question(problem.problem, Image.open(problem.images[0]).convert("RGB"), told)
    return found


def run(folder, start, problems, preset, settings):
    chosen, hints, solutions = problems
    args = PTDConfig.from_preset(preset, output_dir=str(folder), **small_settings(**{**SETTINGS, **settings}))
    rows = rl_dataset(chosen, hints, instruction="", solutions=solutions)
    accuracy = Accuracy()
    trainer = WatchedTrainer(start, accuracy, args, train_dataset=rows, processing_class=load_processor(start))
    trainer.watched = Watched()
    trainer.add_callback(Gradients(trainer.watched))
    trainer.train()
    return trainer.watched, accuracy


class Recomputed:
    """The steps of a run, from what it sampled."""

    def __init__(self, objective: Objective, start, expert, questions, watched: Watched, accuracy: Accuracy):
        self.objective, self.questions, self.watched, self.accuracy = objective, questions, watched, accuracy
        self.processor = load_processor(start)
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
            read = [
                self.read.without_gradient(model, text, row.question.image, row.response)
                for model, text in ((weights.policy, row.question.text), (weights.teacher, shown))
            ]
            found += reference.gate(self.objective, row, *read).tolist()
        return sum(found) / len(found)

    def _teacher(self, sampled: int) -> torch.nn.Module:
        """Return the teacher as it was when the rollouts of a generation were made, before step ``sampled``."""
        if self.objective.teacher == "expert":
            return self.expert
        if self.objective.teacher == "current":
            return self.model(self.watched.weights[sampled])
        average = {name: p.detach().clone() for name, p in self.start.named_parameters()}
        if self.objective.teacher == "average":
            for weights in self.watched.weights[1 : sampled + 1]:
                for name in average:
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
        assert objective.context != "sibling" or len(set(group)) == GROUP, "the seed gives different responses"
        sibling = self._sibling(group, right, member)
        told = {"question": True, "sibling": bool(sibling)}.get(objective.context, TOLD[int(name) % 4])
        chosen = [told and reference.is_tutored(right, n, objective.tutored) for n in range(GROUP)]
        if not objective.weight:
            chosen = [False] * GROUP
        advantage = reference.advantages(rewards, objective)[member]
        return Row(question, response, advantage, chosen[member], any(chosen), sibling)

    def _sibling(self, group: Sequence[tuple[int, ...]], right: Sequence[float], member: int) -> str | None:
        others = [(member + step) % GROUP for step in range(1, GROUP)]
        told = [group[other] for other in others if right[other]]
        if not told:
            return None
        text = self.processor.tokenizer.decode(told[0], skip_special_tokens=True)
        return text.split("</think>")[-1].strip()

    def _exchanged(self, name, response, generation, rewards, right) -> Row:
        """HDPO: in groups that all fail, right responses drawn under the context stand in the place of the policy's."""
        group = [ids for ids, _ in self.accuracy.own[generation][name]]
        drawn = self.accuracy.drawn[generation].get(name, [])
        taken = {ids for ids, good in drawn if good}
        assert not taken & set(group), "the seed draws responses that are not the policy's own"
        exchanged = not any(right) and response in taken
        own = 0.0 if exchanged else reference.advantages(rewards, self.objective)[group.index(response)]
        return Row(self.questions[name], response, own, exchanged, exchanged)


# Weights that let every term show beside the others, and what the recipes of these presets set.
LOUD = {
    "grpo": {"beta": 0.5},
    "dapo": {"overlong_buffer": 4},
    "gspo": {},
    "ptd-grpo": {"beta": 0.5, "tutoring_weight": 20.0, "tutoring_k": 10},
    "ptd-dapo": {"overlong_buffer": 4, "tutoring_weight": 20.0, "tutoring_k": 10},
    "ptd-gspo": {"tutoring_weight": 20.0, "tutoring_k": 10},
    "opd": {},
    "opd-sampled": {},
    "opsd": {},
    "opsd-v1": {},
    # Steps large enough for the moving average to move.
    "sdpo": {"tutoring_k": 10, "tutoring_ema_rate": 0.5, "tutoring_weight": 20.0, "learning_rate": 0.02},
    "hdpo": {"tutoring_k": 10, "tutoring_weight": 20.0, "seed": 3},
    "rlsd": {"tutoring_weight": 1.0, "tutoring_reweight_clip": 0.9},
    "srpo": {"tutoring_k": 10, "tutoring_ema_rate": 0.5, "tutoring_weight": 20.0, "learning_rate": 0.02},
    # Open at both steps that are checked.
    "antisd": {"tutoring_weight": -1.0, "tutoring_entropy_warmup": 1, "tutoring_entropy_floor": 0.5},
    "papo": {"beta": 0.5, "perception_weight": 1.0, "perception_entropy_weight": 1.0, "masked_entropy_weight": 1.0},
    "papo-code": {"beta": 0.5, "perception_weight": 1.0, "perception_entropy_weight": 1.0},
}
NAMES = {
    "tutoring_teacher": "teacher",
    "beta": "beta",
    "overlong_buffer": "overlong",
    "tutoring_weight": "weight",
    "tutoring_k": "k",
    "tutoring_select": "tutored",
    "tutoring_advantage": "bounded",
    "tutoring_gate": "gate",
    "tutoring_gate_sharpness": "sharpness",
    "tutoring_gate_threshold": "threshold",
    "tutoring_gate_above": "above",
    "tutoring_gate_normalised": "normalised",
    "tutoring_keep_rl": "rl_on_tutored",
    "tutoring_reweight_clip": "reweighted",
    "tutoring_ema_rate": "average_rate",
    "perception_weight": "gap",
    "perception_entropy_weight": "entropy",
    "masked_entropy_weight": "masked_entropy",
}


def objective_of(preset: str, settings: dict) -> Objective:
    known = {NAMES[name]: value for name, value in settings.items() if name in NAMES}
    if "bounded" in known:
        known["bounded"] = known["bounded"] == "jsd"
    if settings.get("tutoring_keep_kl") is False:
        known["kl_on_tutored_groups"] = False
    return replace(reference.PRESETS[preset], **known)


CASES = {name: (name, settings) for name, settings in LOUD.items()}
for name, shared in (("ptd-grpo", False), ("hdpo", False), ("grpo", True), ("papo", True)):
    CASES[f"{name}, {'shared' if shared else 'plain'} rows"] = (name, {**LOUD[name], "share_prefix": shared})
# HDPO's support is the teacher's: it never needs the head that read. This one does.
CURRENT = {**LOUD["ptd-grpo"], "tutoring_teacher": "current", "learning_rate": 0.02}
CASES["ptd-grpo, current teacher"] = ("ptd-grpo", CURRENT)
CASES["ptd-grpo, dense head"] = ("ptd-grpo", {**LOUD["ptd-grpo"], "head": "dense"})
CASES["ptd-grpo, token budget"] = ("ptd-grpo", {**LOUD["ptd-grpo"], "micro_batch_tokens": 60})
CASES["ptd-grpo, no KL on tutored groups"] = ("ptd-grpo", {**LOUD["ptd-grpo"], "tutoring_keep_kl": False})


# One gate of each kind that no preset has.
GATES = {
    "surer students, the others pushed away": {
        "tutoring_gate": "student_entropy", "tutoring_gate_sharpness": 0.0, "tutoring_gate_threshold": 5.3,
        "tutoring_gate_above": -1.0,
    },
    "agreement": {"tutoring_gate": "agreement", "tutoring_gate_sharpness": 5.0},
    "late tokens, normalised": {
        "tutoring_gate": "position", "tutoring_gate_sharpness": -2.0, "tutoring_gate_normalised": True,
    },
}  # fmt: skip
for name, gate in GATES.items():
    CASES[f"ptd-grpo, {name}"] = ("ptd-grpo", {**LOUD["ptd-grpo"], **gate})


def terms_of(objective: Objective) -> set[str]:
    has = {
        "policy gradient": objective.policy_gradient,
        "reference KL": objective.beta,
        "tutoring": objective.weight and objective.reweighted is None,
        "reweighting": objective.reweighted,
        "perception gap": objective.gap,
        "entropy": objective.entropy,
        "masked entropy": objective.masked_entropy,
    }
    return {name for name, value in has.items() if value}


def test_every_preset_is_here():
    assert {preset for preset, _ in CASES.values()} == set(PRESETS) - {SFT} == set(reference.PRESETS)


@pytest.mark.parametrize("case", list(CASES))
def test_every_loss_and_gradient_is_that_of_the_formulas(case, tmp_path, start, expert, problems, questions):
    preset, settings = CASES[case]
    objective = objective_of(preset, settings)
    teacher = {"tutoring_teacher": expert} if objective.teacher == "expert" else {}
    watched, accuracy = run(tmp_path, start, problems, preset, {**settings, **teacher})
    recomputed = Recomputed(objective, start, expert, questions, watched, accuracy)
    largest: dict[str, float] = {}
    for number in CHECKED:
        shares, gradients = recomputed.step(number)
        batches = watched.batches[number * WINDOW :][:WINDOW]
        assert any(len(set(batch["completion_mask"].sum(dim=1).tolist())) > 1 for batch, _ in batches)
        for (_, loss), terms in zip(batches, shares, strict=True):
            assert loss == pytest.approx(sum(terms.values()), abs=1e-5), (number, terms)
        mine = torch.cat([gradient.flatten() for gradient in watched.gradients[number].values()])
        total = torch.stack(list(gradients.values())).sum(dim=0)
        assert (mine - total).norm() < TOLERANCE * total.norm(), number
        # Off the policy every term is there: what has moved since the rollouts shows.
        assert number != CHECKED[0] or gradients.keys() == terms_of(objective)
        for name, gradient in gradients.items():
            largest[name] = max(largest.get(name, 0.0), (gradient.norm() / total.norm()).item())
    assert min(largest.values()) > 100 * TOLERANCE, "every term would be missed, and seen if its sign were wrong"
