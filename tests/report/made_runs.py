"""Runs as training leaves them, made up: metrics and records of so many steps."""

import json
import random

from PIL import Image

from ptdpo.runlog import GroupLine, Leading, QuestionLine, RecordWriter, RolloutLine, TokenLine

HOSTILE = "</script><img src=x onerror=\"document.title='hacked'\"> <b>bold</b> \x00\x1b[31m\u202e"
WORDS = ["<think>", " the", " star", " stands", " left", " of", " 12", " blue", "\n", " squares", " so", " </think>"]
LENGTH = 14


def make_run(folder, steps=6, groups=2, rollouts=4, seed=0, images=True, question="", pictures=0, **metrics):
    """Write a run whose accuracy rises; ``metrics`` overrides values by step -> value."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    writer = RecordWriter(folder)
    texts = {str(n): word for n, word in enumerate(WORDS)}
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, steps + 1):
            share = step / (steps + 1)
            row = {
                "step": step, "loss": 0.1, "accuracy": share, "entropy": 1.5 - share, "kl": 0.01 * step,
                "divergence": 0.2 * (1 - share), "tutored/tokens": 40, "tutored/rollouts": 4, "reward": share,
                "groups/all_fail": (1 - share) * 0.6, "groups/informative": 0.4, "groups/all_pass": share * 0.6,
                "completions/mean_length": LENGTH, "completions/clipped_ratio": 0.0, "grad_norm": 1.0,
                "seconds/generate": 0.5, "seconds/update": 0.4, "seconds/teacher": 0.2, "seconds/records": 0.01,
                "num_tokens": 400.0 * step, "elapsed": 1.2 * step,
            }  # fmt: skip
            row.update({key: value(step) for key, value in metrics.items()})
            file.write(json.dumps(row) + "\n")
            for number in range(groups):
                one = f"q{(step * groups + number) % 7}"
                picture = Image.new("RGB", (48, 48), ["teal", "orange", "purple"][number % 3])
                shown = pictures or question.count("<image>") or int(images)
                names = writer.keep_images([picture] * shown)
                hint = "Look: the left column\nReason: count the blue cells"
                asked = question or f"Which score has {one}?"
                lines = [QuestionLine(step, one, "ab12cd34", asked, "12", "hint", hint, names)]
                own = [_rollout(rng, place, right=rng.random() < share) for place in range(rollouts)]
                lines.append(GroupLine(step, number, one, "ab12cd34", "accuracy_reward", own))
                lines += [_tokens(rng, step, number, each, texts) for each in own]
                writer.write(lines)
    (folder / "started.json").write_text(json.dumps({"preset": "ptd-grpo", "train": {"learning_rate": 1e-4}}))
    return folder


def _rollout(rng, place, *, right):
    answer = "12" if right else str(rng.randint(13, 20))
    text = f"<think> the star stands left </think>\\boxed{{{answer}}}"
    return RolloutLine(place, text, LENGTH, 0.9 * right + 0.1, float(right), answer, 1.0 if right else -0.6,
                       "right" if right else "tutored")  # fmt: skip


def _tokens(rng, step, number, rollout, texts):
    def leading():
        return Leading(
            [rng.sample(range(len(WORDS)), 5) for _ in range(LENGTH)], [[0.6, 0.2, 0.1, 0.05, 0.01]] * LENGTH
        )

    ids = [rng.randrange(len(WORDS)) for _ in range(LENGTH)]
    values = [round(rng.random(), 4) for _ in range(LENGTH)]
    divergence = [round(rng.random() ** 4, 4) for _ in range(LENGTH)] if rollout.tutored else None
    return TokenLine(
        step, step, number, rollout.rollout, ids, [-v for v in values], values, divergence, leading(),
        leading() if rollout.tutored else None, texts,
    )  # fmt: skip


def make_hinted(folder):
    """Write a run that tutors nothing; at step 1 one of two rollouts was drawn with a hint, at step 2 none."""
    writer = RecordWriter(folder)
    own = RolloutLine(0, "\\boxed{3}", 3, 0.1, 0.0, "3", -1.0, "off")
    hinted = RolloutLine(1, "\\boxed{12}", 3, 1.0, 1.0, "12", None, "off", "boxed", "hint 1")
    question = QuestionLine(1, "q", "ab12cd34", "how many?", "12", "hint", "Look: left", ())
    writer.write([question, GroupLine(1, 0, "q", "ab12cd34", "accuracy_reward", [own, hinted])])
    writer.write([GroupLine(2, 0, "q", "ab12cd34", "accuracy_reward", [own])])
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": NaN, "reward": Infinity, "elapsed": NaN}\n')
    return folder


def make_hostile(folder):
    """Write a run whose every text tries to be more than text, with a megabyte of response and a missing image."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = RecordWriter(folder)
    evil = RolloutLine(0, HOSTILE, 2, None, None, HOSTILE, 0.0, HOSTILE)
    long = RolloutLine(1, "x" * 1_000_000, 3, 0.0, 0.0, None, -0.5, "tutored")
    five = Leading([[1, 2]] * 2, [[0.5, 0.1]] * 2)
    writer.write(
        [
            QuestionLine(1, HOSTILE, "h", HOSTILE, HOSTILE, "hint", HOSTILE, ("gone.png", "../../x.png")),
            GroupLine(1, 0, HOSTILE, "h", HOSTILE, [evil, long]),
            TokenLine(1, 1, 0, 0, [1, 2], [-1.0, -2.0], [0.5, 0.1], [0.3, 0.0], five, None, {"1": HOSTILE, "2": "\n"}),
            GroupLine(2, 0, "unknown", "gone", "", [evil]),
        ]
    )
    (folder / "metrics.jsonl").write_text('{"step": 1, "accuracy": NaN, "loss": 1.0}\n{"step": 2, "accu')
    (folder / "started.json").write_text(json.dumps({"model": HOSTILE}))
    return folder
