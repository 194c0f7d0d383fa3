"""Answers in Chinese, Japanese and Korean, and verdicts after any verb."""

import pytest

from ptdpo.hints import check_hint
from ptdpo.records import Hint, Problem
from ptdpo.text.cjk import cjk_number, separated


def leaks(question: str, answer: str, reason: str) -> bool:
    hint = Hint("Look at the upper left corner of the figure and the red bars beside it.", reason)
    return "answer" in check_hint(Problem("p", (), question, answer), hint).names


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("11", "答案是11。"), ("11", "答案为11"), ("11", "答えは11です。"), ("11", "정답은 11입니다."),
        ("11", "共有11个点"),
        ("11", "答案是十一。"), ("23", "一共二十三个"), ("12", "答えは十二です"), ("11", "정답은 십일입니다"),
        ("11", "모두 열하나"), ("3", "答案是三。"), ("3", "答えは三です"), ("205", "等于二百零五"),
        ("11", "答案是１１。"),
        ("B", "答案是B。"), ("B", "应选B"), ("B", "正解はBです"), ("B", "정답은 B입니다"),
        ("yes", "答案是yes"), ("Yes", "答案是：是。"), ("No", "答案为否"), ("no", "答えはいいえです"),
        ("no", "정답은 아니오"),
        ("红色", "所以选红色"), ("三角形", "你会看到三角形"),
    ],
)  # fmt: skip
def test_answers_in_other_scripts_leak(answer, reason):
    assert leaks("How many points are there?", answer, reason)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("11", "数一数左边的点，再数右边的点，然后相加。"), ("3", "看第三个图形的左边，与统一的标记比较。"),
        ("1", "先看一个角，再看另一个角。"), ("42", "두 점 사이의 거리를 구하세요."),
        ("B", "比较A和B的长度，再比较C。"),
        ("yes", "判断两条线是否平行，再回答。"), ("no", "比较左右两边是不是一样高。"),
    ],
)  # fmt: skip
def test_good_hints_in_other_scripts_stand(answer, reason):
    assert not leaks("How many points are there?", answer, reason)


@pytest.mark.parametrize(
    "said",
    [
        "Choose no.", "You will find no.", "Answer with no.", "It is no.", "Then it comes out no.", "Mark no!",
        "Write no;", "Select false.", "You get false.", "Tick no.",
    ],
)  # fmt: skip
@pytest.mark.parametrize(("answer", "verdict"), [("No", "no"), ("Yes", "yes")])
def test_verdicts_after_any_verb_leak(said, answer, verdict):
    said = said.replace("no", verdict).replace("false", "false" if verdict == "no" else "true")
    assert leaks("Is the bar higher?", answer, f"Compare both bars at their tops. {said}")


@pytest.mark.parametrize(
    "said",
    [
        "Decide between yes and no.", "Then reply yes or no.", "Find out whether it is yes.",
        "There is no shadow here.",
        "Check which statements are true.", "If no, look at the other bar.", "Compare the true lengths of the bars.",
    ],
)  # fmt: skip
def test_verdicts_left_open_do_not(said):
    for answer in ("No", "Yes"):
        assert not leaks("Is the red bar higher than the blue one?", answer, f"Compare both at their tops. {said}")


def test_numbers_of_the_scripts():
    known = {"十一": 11, "二百零五": 205, "一万二千": 12000, "二〇二四": 2024, "십일": 11, "스물셋": 23, "みっつ": 3}
    assert {text: cjk_number(text) for text in known} == known
    assert cjk_number("三角") is None
    assert separated("plain text 11") == "plain text 11"
    assert separated("统一的三角形") == "统一的三角形"
    assert separated("사이의 오이") == "사이의 오이"
