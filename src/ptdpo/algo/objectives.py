"""How the terms beside the policy gradient enter the objective."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ptdpo.algo.shapes import Bool, Float, Shaped

EPSILON = 1e-6
# k3 beyond this is cut off by PAPO's code.
_MOST_PERCEPTION = 10.0
_LEAST_DEVIATION = 1e-6

Schedule = Literal["constant", "linear", "cosine"]
Estimator = Literal["paper", "code"]
Use = Literal["loss", "advantage", "reweight", "shift"]
Sampled = Literal["log_ratio", "jsd"]


def tutoring_loss(
    divergence: Float[Tensor, " n"], tutored_tokens: int | float, *, processes: int = 1
) -> Float[Tensor, ""]:
    """One micro-batch's share of L_PTD, (11): sum of D / (|F| + eps), times the number of processes.

    The count belongs to the WHOLE optimiser step: all accumulation micro-batches of all processes. Shares then
    add up to (11) under accumulation, which sums gradients, and data parallelism, which averages them.

    Args:
        divergence: [n], D at this micro-batch's tutored positions; may be empty.
        tutored_tokens: |F| of the optimiser step.
        processes: how many processes average their gradients.

    Returns:
        A scalar; 0 with gradient 0 when nothing is tutored.

    Raises:
        ValueError: if the count is smaller than the number of positions given.
    """
    if tutored_tokens < divergence.numel():
        raise ValueError(
            f"the step counts {tutored_tokens} tutored tokens but this micro-batch alone holds "
            f"{divergence.numel()}; the count must cover the whole optimiser step"
        )
    return divergence.sum() * (processes / (tutored_tokens + EPSILON))


def ratio_weights(log_prob: Float[Tensor, " n"], old_log_prob: Float[Tensor, " n"], clip: float) -> Float[Tensor, " n"]:
    """Return the detached importance ratio min(pi / pi_old, clip) of each token (SDPO); 1 on-policy."""
    return (log_prob.detach() - old_log_prob).exp().clamp_max(clip)


def sampled_distillation(
    log_prob: Float[Tensor, " n"],
    teacher_log_prob: Float[Tensor, " n"],
    kind: str = "log_ratio",
    most: float = math.inf,
) -> Float[Tensor, " n"]:
    """Return the policy-gradient form of distillation at sampled tokens (OPD, sampled): -A, with gradient -A d log p.

    A, detached, is the advantage of the sampled token. ``log_ratio``: A = u = log q - log p; its mean estimates
    -KL(student‖teacher), and the gradient of the mean is that of the KL, up to a term of expectation 0. ``jsd``:
    A = (log(1 + e^u) - log 2) / 2, whose gradient is that of the Jensen-Shannon divergence (13), and which is at least
    -log(2) / 2 (AntiSD).

    Args:
        log_prob: [n], the student's log-probability of the sampled tokens.
        teacher_log_prob: [n], the teacher's.
        kind: which of the two.
        most: A is kept within this of 0.

    Returns:
        [n], whose value is -A.

    Raises:
        ValueError: if the kind is unknown.
    """
    if kind not in get_args(Sampled):
        raise ValueError(f"kind must be one of {', '.join(get_args(Sampled))}, got {kind!r}")
    advantage = teacher_log_prob.detach() - log_prob.detach()
    if kind == "jsd":
        advantage = 0.5 * (softplus(advantage) - math.log(2.0))
    return -advantage.clamp(-most, most) * (log_prob - log_prob.detach()).exp()


def standardised(values: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    """Return [B, T], each response's values shifted to mean 0 and divided by their deviation (with n); 0 elsewhere.

    A deviation below 1e-6 counts as 1e-6.
    """
    own = mask.to(values.dtype)
    count = own.sum(dim=1, keepdim=True).clamp_min(1.0)
    centred = (values - (values * own).sum(dim=1, keepdim=True) / count) * own
    deviation = (centred.square().sum(dim=1, keepdim=True) / count).sqrt().clamp_min(_LEAST_DEVIATION)
    return centred / deviation


def evidence_weights(
    log_ratio: Float[Tensor, " n"], advantages: Float[Tensor, " n"], *, weight: float, clip: float
) -> Float[Tensor, " n"]:
    """Return the factor on each token's advantage (RLSD): 1 - lambda + lambda clip((q / p)^sign(A), 1 - eps, 1 + eps).

    Right responses owe more to tokens that the teacher expects, failed ones to those that it does not. No advantage
    changes its sign as long as lambda and epsilon are at most 1.

    Args:
        log_ratio: [n], log q - log p of the sampled tokens, teacher to student; no gradient is taken.
        advantages: [n], of the tokens' responses.
        weight: lambda, how much of the advantage is redistributed; negative, with p / q in the place of q / p (RLRT).
        clip: epsilon_w.
    """
    direction = advantages.sign() * math.copysign(1.0, weight)
    ratio = (direction * log_ratio.detach()).exp().clamp(1.0 - clip, 1.0 + clip)
    return 1.0 - abs(weight) + abs(weight) * ratio


def log_mean(log_probs: Float[Tensor, "k n"]) -> Float[Tensor, " n"]:
    """Return [n], log (1/k sum_k p_k): what a teacher thinks whose context is one of k at random (RLCSD)."""
    return log_probs.logsumexp(dim=0) - math.log(log_probs.size(0))


def shifts(evidence: Float[Tensor, " n"], *, weight: float, scale: float, least: float) -> Float[Tensor, " n"]:
    """Return by how much each token's advantage moves (RLCSD): r = lambda tanh(e / tau), 0 where |r| <= delta.

    Args:
        evidence: [n], e, how much more the teacher expects the sampled token than what it is contrasted with does; no
            gradient is taken.
        weight: lambda, the most that an advantage moves; negative, the other way.
        scale: tau, of the evidence.
        least: delta.
    """
    moved = weight * (evidence.detach() / scale).tanh()
    return moved.where(moved.abs() > least, 0.0)


def shifted(advantages: Float[Tensor, " n"], moved: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return A + r, kept on A's side of 0: the verdict decides the direction; where A is 0 it stays 0.

    Args:
        advantages: [n], A, of the tokens' responses.
        moved: [n], r, see ``shifts``.
    """
    whole = advantages + moved
    kept = torch.where(advantages > 0, whole.clamp_min(0.0), whole.clamp_max(0.0))
    return kept.where(advantages != 0, 0.0)


def perception(
    log_prob: Float[Tensor, "*batch time"], masked_log_prob: Float[Tensor, "*batch time"], *, estimator: str = "paper"
) -> Float[Tensor, "*batch time"]:
    """Return PAPO's implicit perception gap per token: how much the policy depends on the image; never negative.

    ``paper``: r - log r - 1 with r = pi / pi_masked, as printed; unbounded, and exponential in the gap. ``code``: the
    same with 1 / r, which estimates KL(pi‖pi_masked) at tokens sampled from pi, and at most 10.

    Args:
        log_prob: [..., T], log pi of the sampled tokens.
        masked_log_prob: [..., T], log pi of the same tokens when patches of the image are black.
        estimator: which of the two.

    Raises:
        ValueError: if the estimator is unknown.
    """
    if estimator not in get_args(Estimator):
        raise ValueError(f"estimator must be one of {', '.join(get_args(Estimator))}, got {estimator!r}")
    gap = log_prob - masked_log_prob
    if estimator == "paper":
        return gap.expm1() - gap
    return ((-gap).expm1() + gap).clamp_max(_MOST_PERCEPTION)


def mean_over_responses(values: Float[Tensor, "batch time"], mask: Shaped[Tensor, "batch time"]) -> Float[Tensor, ""]:
    """Return the mean over the tokens of each response and then over responses, as in (3).

    Args:
        values: [B, T].
        mask: [B, T], nonzero at response tokens; a response without any counts as 0.
    """
    mask = mask.to(values.dtype)
    return ((values * mask).sum(dim=-1) / mask.sum(dim=-1).clamp_min(1.0)).mean()


def scheduled(weight: float, schedule: str, progress: float) -> float:
    """Return a weight after a share ``progress`` of the run: constant, or down to 0 linearly or along a half cosine.

    Raises:
        ValueError: if the schedule is unknown.
    """
    if schedule not in get_args(Schedule):
        raise ValueError(f"schedule must be one of {', '.join(get_args(Schedule))}, got {schedule!r}")
    progress = min(max(progress, 0.0), 1.0)
    if schedule == "linear":
        return weight * (1.0 - progress)
    return weight * (1.0 + math.cos(math.pi * progress)) / 2 if schedule == "cosine" else weight
