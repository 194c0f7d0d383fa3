"""Made-up records for tests."""

from ptdpo.runlog import GroupLine, Leading, QuestionLine, RolloutLine, TokenLine


def question(step=1, id="q1", **changes):
    return QuestionLine(step, id, "h" * 8, "Which colour?", "red", "hint", "Look: left", (), **changes)


def rollout(place=0, right=False, **changes):
    content = {"response": f"\\boxed{{{'red' if right else 'blue'}}}", "tokens": 3, "reward": 0.9 * right,
               "accuracy": float(right), "extracted": "red" if right else "blue", "advantage": 1.0 if right else -0.5,
               "reason": "right" if right else "tutored"}  # fmt: skip
    return RolloutLine(place, **{**content, **changes})


def group(step=1, number=0, rollouts=None, id="q1"):
    return GroupLine(step, number, id, "h" * 8, "accuracy_reward", rollouts or [rollout(0), rollout(1, right=True)])


def tokens(step=1, number=0, place=0, sampled=None, divergence=(0.1, 0.4, 0.0)):
    five = Leading([[1, 2, 3, 4, 5]] * 3, [[0.5, 0.2, 0.1, 0.05, 0.01]] * 3)
    texts = {str(n): f"t{n} " for n in range(1, 6)}
    taught = None if divergence is None else five
    return TokenLine(
        step, sampled or step, number, place, [1, 2, 3], [-0.7, -1.6, -2.3], [1.0, 0.9, 0.1],
        divergence and list(divergence), five, taught, texts,
    )  # fmt: skip
