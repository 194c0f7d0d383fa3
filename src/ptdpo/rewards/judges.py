"""What a worker can be asked about (given, expected). Each of these may hang: never call one in a training process."""

from collections.abc import Callable

from ptdpo.rewards.parity import parity_in_worker
from ptdpo.rewards.second import math_verify_opinion
from ptdpo.rewards.symbolic import roughly_equal, symbolically_equal

MATHRULER, EXACT, ROUGH, MATH_VERIFY = "mathruler", "exact", "rough", "math-verify"

JUDGES: dict[str, Callable[[str, str], bool | None]] = {
    MATHRULER: parity_in_worker,
    EXACT: symbolically_equal,
    ROUGH: roughly_equal,
    MATH_VERIFY: math_verify_opinion,
}
