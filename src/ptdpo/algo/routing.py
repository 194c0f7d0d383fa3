"""Which response tokens are tutored?"""

from typing import Literal, get_args

from torch import Tensor

from ptdpo.algo.shapes import Bool, Float, Shaped

Select = Literal["failed", "all", "all_fail_groups", "with_sibling", "failed_with_sibling", "succeeded", "every"]

# Group means are ratios of small integers; thresholds such as 0.7 have no exact binary form.
_TOLERANCE = 1e-6


def route(
    accuracy: Float[Tensor, "groups rollouts"],
    response_mask: Shaped[Tensor, "groups rollouts time"],
    *,
    threshold: float = 1.0,
    select: Select = "failed",
) -> Bool[Tensor, "groups rollouts time"]:
    """Return F of (8): position (i, t) is tutored iff mean accuracy < threshold, r_i = 0 and m_it = 1.

    Args:
        accuracy: r, 0 or 1 for each rollout; never the weighted training reward.
        response_mask: m, nonzero where a token belongs to the response.
        threshold: tau. A group is activated if its mean accuracy is below it; 1.0 tutors every failed rollout.
        select: ``failed`` as in (8); ``all`` tutors right rollouts of activated groups too (Table 2, "All
            Trajectories"); ``all_fail_groups`` tutors only groups in which nobody succeeds; ``with_sibling``
            every rollout, right or wrong, another of whose group is right; ``failed_with_sibling`` the wrong ones of
            these; ``succeeded`` every right rollout; ``every`` all of them. The threshold counts for the first two.

    Raises:
        ValueError: if an accuracy is not 0 or 1, the threshold is not in (0, 1], or ``select`` is unknown.
    """
    if not bool(((accuracy == 0) | (accuracy == 1)).all()):
        bad = accuracy[(accuracy != 0) & (accuracy != 1)][0].item()
        raise ValueError(f"accuracy must be 0 or 1 for every rollout, got {bad}; route on accuracy, not on reward")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], got {threshold}")
    if select not in get_args(Select):
        raise ValueError(f"select must be one of {', '.join(get_args(Select))}, got {select!r}")
    right = accuracy.double().sum(dim=1, keepdim=True)
    activated = right < threshold * accuracy.size(1) - _TOLERANCE
    if select == "failed":
        chosen = activated & (accuracy == 0)
    elif select == "all":
        chosen = activated.expand_as(accuracy)
    elif select == "all_fail_groups":
        chosen = (right == 0).expand_as(accuracy)
    elif select == "with_sibling":
        chosen = right - accuracy > 0
    elif select == "failed_with_sibling":
        chosen = (right > 0) & (accuracy == 0)
    elif select == "succeeded":
        chosen = accuracy == 1
    else:
        chosen = accuracy >= 0
    return chosen.unsqueeze(-1) & response_mask.bool()


def group_shares(accuracy: Float[Tensor, "groups rollouts"]) -> tuple[float, float, float]:
    """Return the shares of all-fail, informative and all-pass groups (Figure 2)."""
    right = accuracy.double().sum(dim=1)
    all_fail = (right == 0).double().mean().item()
    all_pass = (right == accuracy.size(1)).double().mean().item()
    return all_fail, 1.0 - all_fail - all_pass, all_pass
