"""What a worker can be asked about an answer. Each of these may hang: never call one in a training process."""

from collections.abc import Callable

from ptdpo.rewards.parity import parity_in_worker
from ptdpo.rewards.symbolic import math_verify_opinion, symbolically_equal

# (given, expected) -> verdict
Judge = Callable[[str, str], bool]

MATHRULER, SYMBOLIC, MATH_VERIFY = "mathruler", "symbolic", "math-verify"

JUDGES: dict[str, Judge] = {
    MATHRULER: parity_in_worker,
    SYMBOLIC: symbolically_equal,
    MATH_VERIFY: math_verify_opinion,
}

# Answers that every judge reads quickly once its library is loaded.
WARM_UP = {
    MATHRULER: ("x+1", "1+x"),
    SYMBOLIC: ("\\sum_{k=1}^{5} k", "15"),
    MATH_VERIFY: ("\\boxed{x+1}", "1+x"),
}
