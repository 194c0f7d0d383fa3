"""How the tutoring term enters the objective."""

from torch import Tensor

EPSILON = 1e-6


def tutoring_loss(divergence: Tensor, tutored_tokens: int | float, *, processes: int = 1) -> Tensor:
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


def ratio_weights(log_prob: Tensor, old_log_prob: Tensor, clip: float) -> Tensor:
    """Return the detached importance ratio min(pi / pi_old, clip) of each token (SDPO); 1 on-policy."""
    return (log_prob.detach() - old_log_prob).exp().clamp_max(clip)
