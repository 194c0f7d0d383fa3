"""Small training settings, rewards and runs for tests."""

from dataclasses import replace

from ptdpo.models import load_model
from ptdpo.rewards.functions import completion_text
from ptdpo.train import PTDConfig, PTDTrainer
from ptdpo.train.metrics import read_metrics

# One plain step whose size is that of the gradient.
SGD = {"optim": "sgd", "learning_rate": 0.5, "max_grad_norm": 0.0, "weight_decay": 0.0}


def with_views(problems):
    """Problems whose teacher sees the next one's picture too, and is contrasted with that after it."""
    ahead = [problems[step:] + problems[:step] for step in (1, 2)]
    return [
        replace(problem, teacher_images=shown.images, contrast_images=other.images)
        for problem, shown, other in zip(problems, *ahead, strict=True)
    ]


def small_settings(**changes):
    return {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "num_generations": 4,
        "max_completion_length": 8,
        "max_steps": 1,
        "learning_rate": 1e-3,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "activation_checkpointing": False,
        **changes,
    }


def length_reward(completions, **_):
    """A reward that varies inside every group, so that advantages are not all zero."""
    return [len(completion_text(c)) / 10 for c in completions]


class Alternating:
    """An accuracy that does not look at the response: right for every n-th rollout, from ``offset`` on."""

    __name__ = "accuracy_reward"

    def __init__(self, every, offset=0):
        self.every, self.offset = every, offset

    def __call__(self, completions, **_):
        return [float((n + self.offset) % self.every == 0) for n in range(len(completions))]


class Staged:
    """Grades the policy's own rollouts, then those drawn under the context, which are fewer or of another call."""

    __name__ = "accuracy_reward"

    def __init__(self, own, drawn):
        self.own, self.drawn, self.calls = own, drawn, []

    def __call__(self, completions, completion_ids, **_):
        stage = self.own if len(self.calls) % 2 == 0 else self.drawn
        self.calls.append([list(ids) for ids in completion_ids])
        return [float(stage(n)) for n in range(len(completions))]


def always_wrong(completions, **_):
    return [0.0 for _ in completions]


def always_right(completions, **_):
    return [1.0 for _ in completions]


always_wrong.__name__ = always_right.__name__ = "accuracy_reward"


def make_trainer(
    folder, model, processor, rows, reward=None, preset="ptd-grpo", peft_config=None, feedback=None, **changes
):
    settings = small_settings(**changes)
    args = PTDConfig.from_preset(preset, output_dir=str(folder), **{"tutoring_k": 10, **settings})
    given = {"train_dataset": rows, "processing_class": processor, "peft_config": peft_config}
    return PTDTrainer(model, reward, args, feedback=feedback, **given)


def parameters(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def largest_difference(first, second):
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)


def parameters_of_start(trainer):
    return {name: p.detach() for name, p in load_model(trainer.model.config._name_or_path).named_parameters()}


def metrics(trainer):
    return read_metrics(f"{trainer.args.output_dir}/metrics.jsonl")
