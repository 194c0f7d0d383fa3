"""Is a response right? Extraction, grading, format."""

from ptdpo.rewards.choices import read_options
from ptdpo.rewards.functions import accuracy_reward, format_reward
from ptdpo.rewards.grading import Mode, check_mode, grade, grade_many
from ptdpo.rewards.keys import answers_match

__all__ = [
    "Mode",
    "accuracy_reward",
    "answers_match",
    "check_mode",
    "format_reward",
    "grade",
    "grade_many",
    "read_options",
]
