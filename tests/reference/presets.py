"""What each preset minimises, as an ``Objective``: written down from its paper, not read from ``ptdpo.presets``."""

from dataclasses import replace

from tests.reference.records import Objective

_RL = Objective(beta=0.01)
_DISTIL = Objective(policy_gradient=False, weight=1.0, tutored="every")
_PTD = {"weight": 0.5, "k": 100}

# Every preset but sft, whose loss is a cross-entropy.
PRESETS: dict[str, Objective] = {
    "grpo": _RL,
    "dapo": Objective(high=0.28, token_mean=True),
    "gspo": Objective(sequence_ratio=True, low=3e-4, high=4e-4),
    "ptd-grpo": replace(_RL, **_PTD),
    "ptd-dapo": Objective(high=0.28, token_mean=True, **_PTD),
    "ptd-gspo": Objective(sequence_ratio=True, low=3e-4, high=4e-4, **_PTD),
    "opd": replace(_DISTIL, teacher="expert", context="question", kind="forward_kl"),
    "opd-sampled": replace(_DISTIL, teacher="expert", context="question", sampled=True),
    "opsd": replace(_DISTIL, context="solution", kind="forward_kl", clip=0.05),
    "opsd-v1": replace(_DISTIL, context="solution"),
    "sdpo": replace(
        _DISTIL, teacher="average", context="sibling", tutored="with_sibling", k=100, support="student", ratio_clip=2.0
    ),
    "hdpo": Objective(
        token_mean=True,
        scaled=False,
        leave_one_out=True,
        weight=0.01,
        teacher="current",
        context="answer",
        tutored="all_fail_groups",
        k=64,
        support="teacher",
        tail="student",
        mean_of_all=True,
    ),
    "rlsd": Objective(
        high=0.28, highest=3.0, token_mean=True, weight=0.5, context="solution", tutored="every", reweighted=0.2
    ),
    "srpo": Objective(
        token_mean=True,
        weight=1.0,
        teacher="average",
        context="sibling",
        tutored="failed_with_sibling",
        rl_on_tutored=False,
        mean_of_all=True,
        k=100,
        support="student",
        ratio_clip=2.0,
        gate="teacher_entropy",
        normalised=True,
    ),
    "antisd": Objective(
        token_mean=True,
        weight=-0.1,
        teacher="current",
        context="sibling",
        tutored="with_sibling",
        mean_of_all=True,
        sampled=True,
        bounded=True,
        standardised=True,
    ),
    "rlcsd": Objective(
        token_mean=True,
        weight=0.5,
        teacher="average",
        average_rate=1.0,
        average_interval=10,
        context="sibling",
        tutored="with_sibling",
        contrast="failed_siblings",
        shift_scale=0.02,
        shift_apart=True,
    ),
    "v-zero": replace(
        _DISTIL,
        context="question",
        images="teacher",
        contrast="images",
        sampled=True,
        most_sampled=10.0,
        ratio_clip=1.2,
        evidence_gate=0.5,
    ),
    "scaf-grpo": Objective(token_mean=True, hinted="question"),
    "papo-printed": replace(_RL, high=0.3, gap=0.02, entropy=0.05, masked_entropy=0.05),
    "papo": replace(_RL, high=0.3, gap=0.02, gap_of_code=True, entropy=0.05, masked_once=True),
}
