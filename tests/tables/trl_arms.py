"""What stands in the place of ``from trl import GRPOConfig, GRPOTrainer`` in TRL's tests, chosen by ``PTDPO_ARM``."""

import dataclasses
import os

import trl
from datasets import Dataset

from ptdpo.train import PTDConfig, PTDTrainer

ARMS = ("TRL", "lambda 0", "tutoring")
ARM = os.environ.get("PTDPO_ARM", ARMS[0])
HINT = {"look": "at the first word", "reason": "then say the last"}
# A test that does not say how long it trains, and would go over its data three times, makes so many steps.
STEPS = {"max_steps": 3}
# Only of tutoring: TRL's tests have no reward of 0 and 1, so a threshold says who is right: nobody.
TUTORED = {"tutoring_k": 10, "accuracy_threshold": 1e6}


def config(kind, **changes):
    """Return settings with TRL's defaults, where ours differ (docs/presets.md lists them), and some changes."""
    theirs = {f.name: f.default for f in dataclasses.fields(trl.GRPOConfig)}
    own = {f.name: f for f in dataclasses.fields(kind)}
    restored = {name: default for name, default in theirs.items() if default != own[name].default}
    fields = [(name, own[name].type, value) for name, value in (restored | STEPS | changes).items()]
    made = dataclasses.make_dataclass("GRPOConfig", fields, bases=(kind,))
    # Where it is found by that name: checkpoints pickle their settings.
    made.__module__ = __name__
    return made


class Plain(PTDTrainer):
    """``PTDTrainer`` whose settings, where a test gives none, are this arm's too."""

    def __init__(self, *args, **kwargs):
        if len(args) < 3 and kwargs.get("args") is None:
            kwargs["args"] = GRPOConfig("trl-suite-output")
        super().__init__(*args, **kwargs)


class Hinted(Plain):
    """The same with a hint in every row."""

    def __init__(self, *args, **kwargs):
        rows = kwargs.get("train_dataset")
        if isinstance(rows, Dataset):
            kwargs["train_dataset"] = rows.add_column("hint", [HINT] * len(rows))
        elif rows is not None:
            kwargs["train_dataset"] = rows.map(lambda row: {**row, "hint": HINT})
        super().__init__(*args, **kwargs)


if ARM == "TRL":
    GRPOConfig, GRPOTrainer = config(trl.GRPOConfig), trl.GRPOTrainer
elif ARM == "lambda 0":
    GRPOConfig, GRPOTrainer = config(PTDConfig, tutoring_weight=0.0), Plain
else:
    GRPOConfig, GRPOTrainer = config(PTDConfig, **TUTORED), Hinted
