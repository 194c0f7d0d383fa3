"""Is a response right? Extraction, grading, format."""

from ptdpo.rewards.choices import read_options
from ptdpo.rewards.functions import accuracy_reward, format_reward
from ptdpo.rewards.grading import Mode, grade, grade_many
from ptdpo.rewards.plain_text import answers_match

__all__ = ["Mode", "accuracy_reward", "answers_match", "format_reward", "grade", "grade_many", "read_options"]
