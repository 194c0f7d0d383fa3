"""Before training: how much better is the teacher than the student, how far away, and how strong is lambda?"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ptdpo.algo.divergence import full_divergence, topk_divergence
from ptdpo.analysis.asked import OfRecipe
from ptdpo.analysis.result import Analysis, Cell, mean, plots, said
from ptdpo.analysis.sampling import QUESTION, SAMPLED, Sampler
from ptdpo.config import Recipe
from ptdpo.folders import write_json
from ptdpo.hints.usefulness import HintedDraws, Usefulness, summarise
from ptdpo.models import load_processor
from ptdpo.runlog import FINISHED
from ptdpo.statistics import Estimate, powers_of_two
from ptdpo.train.plan import resolved_settings
from ptdpo.train.provenance import provenance_of
from ptdpo.train.run import make_trainer, output_folder
from ptdpo.tutor.head import Divergence

STEPS = 8
# Below this a gradient of the tutoring term is lost beside that of the policy: its step tutors as the recipe does.
_FAINT = 1e-20
# The weights stay where they are, so that every step measures the start model.
_STILL = {"learning_rate": 0.0, "save_strategy": "no", "record_steps": 0}
_UNSEEING = {"perception_weight": 0.0, "perception_entropy_weight": 0.0, "masked_entropy_weight": 0.0}
COLUMNS = ("measure", "value", "low", "high")


@dataclass(frozen=True, slots=True)
class Norms:
    """Gradient norms of the same rollouts, one per step: of the policy term, and of the tutoring term with lambda 1."""

    policy: Sequence[float]
    tutoring: Sequence[float]

    @property
    def equal_weight(self) -> float | None:
        """Return the lambda at which both are equally long in the mean; ``None`` if nothing was tutored."""
        policy, tutoring = mean(self.policy), mean(self.tutoring)
        return policy / tutoring if policy is not None and tutoring else None


def gap(asked: OfRecipe, rollouts: int = 2) -> Analysis:
    """Return pass@1 with the context and without, the divergence on failed rollouts, and the lambda of equal norms.

    Args:
        asked: a recipe that tutors with the start model.
        rollouts: at most so many failed rollouts of each question are read.

    Raises:
        ValueError: if the recipe does not tutor, or the start model with a context of its rows is not the teacher.
    """
    settings = asked.settings
    context = settings.tutoring_context
    if settings.tutoring_images != "question":
        raise ValueError(
            f"tutoring_images={settings.tutoring_images}: the gap is that of what the teacher reads; set "
            "tutoring_images=question to measure it without the teacher's images"
        )
    if settings.other_teacher or context == QUESTION or context not in SAMPLED:
        raise ValueError(
            f"tutoring_teacher={settings.tutoring_teacher}, tutoring_context={context}: the gap is that between the "
            f"start model and itself under one of {', '.join(SAMPLED[1:])}"
        )
    still = {**_STILL, **_UNSEEING}
    arms = [
        asked.arm("gradients/policy", {**still, "tutoring_weight": _FAINT}, STEPS),
        asked.arm("gradients/tutoring", {**still, "tutoring_weight": 1.0, "rl_weight": 0.0}, STEPS),
    ]
    usefulness, distances = _drawn(asked.sampler(), context, settings.divergence, rollouts)
    norms = Norms(*([row["grad_norm"] for row in asked.trained(arm, _measure)] for arm in arms))
    return analysis_of(usefulness, distances, norms, settings.tutoring_weight)


def _drawn(sampler: Sampler, context: str, settings: Divergence, rollouts: int) -> tuple[Usefulness, list[float]]:
    """Return both measures by sampling; the sampler's model is let go before another one is trained."""
    return with_and_without(sampler, context), on_failed(sampler, context, settings, rollouts)


def with_and_without(sampler: Sampler, context: str) -> Usefulness:
    """Return how often each question is answered without the context and with it.

    Raises:
        ValueError: if no question has the context.
    """
    compared = []
    for row in sampler.rows:
        plain, shown = sampler.draw(row, QUESTION), sampler.draw(row, context)
        if plain is not None and shown is not None:
            compared.append(HintedDraws(plain.id, sampler.samples, sum(plain.right), sum(shown.right), cut_off=0))
    if not compared:
        raise ValueError(f"none of {len(sampler.rows)} questions has the context {context!r}")
    return summarise(compared)


def on_failed(sampler: Sampler, context: str, settings: Divergence, rollouts: int) -> list[float]:
    """Return the divergence of each token along failed rollouts, as training measures it at the start."""
    values: list[float] = []
    for row in sampler.rows:
        plain = sampler.draw(row, QUESTION)
        assert plain is not None
        failed = [text for text, right in zip(plain.texts, plain.right, strict=True) if not right and text]
        for text in failed[:rollouts]:
            ids = sampler.ids(text)
            student, teacher = (sampler.distributions(row, one, ids) for one in (QUESTION, context))
            if student is not None and teacher is not None:
                values += _divergence(student, teacher, settings).tolist()
    return values


def analysis_of(usefulness: Usefulness, distances: Sequence[float], norms: Norms, weight: float) -> Analysis:
    """Return the analysis of what was measured; ``weight`` is the recipe's lambda."""
    gain, equal, distance = usefulness.gain, norms.equal_weight, mean(distances)
    draws = usefulness.compared[0].draws
    without, with_it = (usefulness.mean_pass(1, shown) for shown in (False, True))
    rows: list[Sequence[Cell]] = [
        ["pass@1 without", without, None, None],
        ["pass@1 with", with_it, None, None],
        ["gain of pass@1", gain.mean, gain.low, gain.high],
        ["divergence on failed rollouts", distance, None, None],
        ["norm of the policy gradient", mean(norms.policy), *_ends(norms.policy)],
        ["norm of the tutoring gradient, lambda 1", mean(norms.tutoring), *_ends(norms.tutoring)],
        ["lambda of equal norms", equal, None, None],
        ["lambda of the recipe", weight, None, None],
    ]
    figure, (left, right) = plots(2)
    ks = powers_of_two(draws)
    for shown, label in ((False, "without"), (True, "with")):
        left.plot(ks, [usefulness.mean_pass(k, shown) for k in ks], "o-", label=label)
    left.set(xlabel="n", ylabel="pass@n", ylim=(-0.02, 1.02), xticks=ks)
    for values, label in ((norms.policy, "policy"), (norms.tutoring, "tutoring, lambda 1")):
        right.plot(range(1, len(values) + 1), values, "o-", label=label)
    batches = range(1, len(norms.policy) + 1)
    right.set(xlabel="batch of the start model", ylabel="gradient norm", xticks=batches)
    for axes in (left, right):
        axes.legend(frameon=False)
    sentence = (
        f"pass@1 is {said(without)} without and {said(with_it)} with the context, a gain of {gain.mean:+.3f} "
        f"[{gain.low:+.3f}, {gain.high:+.3f}], and failed rollouts are {said(distance, 4)} nats away: "
        f"{expectation(gain)}; both gradients are equally long at lambda {said(equal)}, the recipe has {weight:g}."
    )
    return Analysis("gap", sentence, COLUMNS, rows, figure)


def expectation(gain: Estimate) -> str:
    """Return what to expect of tutoring, from the gain of pass@1 with its interval."""
    if gain.low > 0:
        return "the teacher knows more than the student, expect tutoring to help; how much, this does not tell"
    if gain.high < 0:
        return "the teacher does worse than the student, expect tutoring to harm"
    return "the teacher does not tell itself apart from the student, expect little of tutoring"


def _divergence(student: Tensor, teacher: Tensor, settings: Divergence) -> Tensor:
    if settings.support == "full":
        return full_divergence(student, teacher, kind=settings.kind, clip=settings.clip)
    return topk_divergence(
        student, teacher, k=settings.k, kind=settings.kind, support=settings.support, tail=settings.tail
    )


def _measure(arm: Recipe) -> None:
    """Take the steps of an arm that learns nothing, and keep its metrics only."""
    settings = resolved_settings(arm)
    home = output_folder(settings)
    data = OfRecipe(arm, home.parent.parent).data()
    make_trainer(arm, settings, data, load_processor(arm.model)).train()
    write_json(home / FINISHED, provenance_of(arm))


def _ends(values: Sequence[float]) -> tuple[float | None, float | None]:
    return min(values, default=None), max(values, default=None)
