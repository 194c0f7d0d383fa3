"""What a worker can be asked about an answer. Each of these may hang: never call one in a training process."""

from collections.abc import Callable, Sequence

from ptdpo.rewards.matching import Comparison
from ptdpo.rewards.parity import parity_in_worker
from ptdpo.rewards.second import math_verify_opinion
from ptdpo.rewards.symbolic import roughly_equal, symbolically_equal

# (given, expected, options) -> verdict
Judge = Callable[[str, str, Sequence[str]], bool]

MATH_VERIFY = "math-verify"

JUDGES: dict[str, Judge] = {
    "mathruler": lambda given, expected, _: parity_in_worker(given, expected),
    "strict": Comparison(lenient=False, equal=symbolically_equal).match,
    "lenient": Comparison(lenient=True, equal=roughly_equal).match,
    MATH_VERIFY: lambda response, expected, _: math_verify_opinion(response, expected),
}
