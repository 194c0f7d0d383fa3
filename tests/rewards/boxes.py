"""Answers in boxes, and whether the sound grader takes them."""

from ptdpo.rewards import grade


def boxed(answer: str) -> str:
    return f"<think>x</think> \\boxed{{{answer}}}"


def right(given: str, expected: str, *options: str) -> bool:
    return grade(boxed(given), expected, options=options, seconds=60).accuracy == 1.0
