"""Is a response right? Extraction, grading, format."""

from ptdpo.rewards.functions import accuracy_reward, format_reward
from ptdpo.rewards.grading import answers_match, grade

__all__ = ["accuracy_reward", "answers_match", "format_reward", "grade"]
