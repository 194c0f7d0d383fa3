"""A run that is watched: what it sampled, its weights, its losses and its gradients, step by step."""

from dataclasses import dataclass, field

from transformers import TrainerCallback

from ptdpo.data.dataset import rl_dataset
from ptdpo.models import load_processor
from ptdpo.train import PTDConfig, PTDTrainer
from tests.train.helpers import SGD, small_settings

GROUP, GROUPS, STEPS, LONGEST, TEMPERATURE = 2, 8, 4, 8, 0.7
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
PATTERNS = {
    2: ((0, 0), (1, 0), (0, 1), (1, 1)),
    # Two of each; all wrong ones have others; the right one of three does not; and the wrong one does not.
    4: ((1, 0, 1, 0), (0, 0, 1, 0), (0, 0, 0, 0), (1, 1, 0, 1)),
}
TOLD = (True, True, False, False)


class Accuracy:
    """Right by problem and place in the group, and a record of what was asked: generation by generation."""

    __name__ = "accuracy_reward"

    def __init__(self, group: int = GROUP, *, hinted: bool = False, chooses: bool = False):
        self.group, self.hinted, self.chooses = group, hinted, chooses
        # How often each problem answered with a hint.
        self.tries: dict[str, int] = {}
        # Graded once to see who fails, and once more with what was drawn then.
        self._again = False
        self.own: list[dict[str, list]] = []
        self.drawn: list[dict[str, list]] = []

    def __call__(self, completion_ids, id, **_):
        whole = len(id) == GROUP * GROUPS
        asked: dict[str, list] = {}
        for name, ids in zip(id, completion_ids, strict=True):
            members = asked.setdefault(name, [])
            # Drawn under the teacher's context: all but one are right.
            right = PATTERNS[self.group][int(name) % 4][len(members)] if whole else len(members) != 1
            if self.chooses and not whole:
                # The first kind of problems is helped by the second hint of three, the second by the first of two.
                right = self.tries.get(name, 0) >= (2 - int(name) % 2) * self.group - 1
                self.tries[name] = self.tries.get(name, 0) + 1
            if self._again and dict(self.drawn[-1].get(name, ())).get(tuple(ids)):
                right = True
            same = dict(members).get(tuple(ids), float(right))
            members.append((tuple(ids), same))
        if self._again:
            self.own.pop()
        self._again = self.hinted and not whole
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


def run(folder, start, problems, preset, settings):
    chosen, hints, solutions = problems
    args = PTDConfig.from_preset(preset, output_dir=str(folder), **small_settings(**{**SETTINGS, **settings}))
    rows = rl_dataset(chosen, hints, instruction="", solutions=solutions)
    accuracy = Accuracy(args.num_generations, hinted=args.hints_rollouts, chooses=args.chooses_hints)
    trainer = WatchedTrainer(start, accuracy, args, train_dataset=rows, processing_class=load_processor(start))
    trainer.watched = Watched()
    trainer.add_callback(Gradients(trainer.watched))
    trainer.train()
    return trainer.watched, accuracy
