"""Start models learn to read what teachers are shown: the same texts, by rules that no world has."""

import re
from collections import Counter

import pytest

from ptdpo.data.contexts import Material, context_row
from ptdpo.data.mosaic import NAMES, WORTH
from ptdpo.data.prompts import conversation, question_text
from ptdpo.data.two_step import STEPS, TwoSteps, graded_hint, hidden_rules, make_puzzles, other_rules, reserved_rules
from ptdpo.rewards import grade
from ptdpo.study.lessons import QUESTION, SHOWN, Habits, Lessons, habit_rows, lesson_rows, practice_rows, shown_text
from ptdpo.tutor.context import privileged_prompt

RULE = TwoSteps(beginning=7, line="middle row", step="take twice", cell=7)
(PUZZLE,) = make_puzzles([("a.png", ("red",) * 9)], [("alpha", RULE)], "key")
FEW = Lessons(mosaics=8, naming_rows=4, step_rows=4, rule_rows=100, reading_rows=400, practice_rows=300)


@pytest.mark.parametrize("shown", SHOWN)
def test_a_lesson_shows_what_the_trainer_shows(shown):
    hint = graded_hint(RULE, shown) if shown in ("look", "order", "whole") else None
    material = Material(PUZZLE.problem, hint, PUZZLE.solution.response, instruction="")
    row = {**context_row(material), "prompt": conversation(question_text(PUZZLE.problem, ""))}
    context = "hint" if hint else shown
    assert privileged_prompt(row, context, PUZZLE.solution.response) == conversation(shown_text(PUZZLE, shown))


def test_a_question_alone_shows_nothing_and_a_sibling_its_work():
    assert shown_text(PUZZLE, QUESTION) == PUZZLE.problem.problem
    assert "take twice" in shown_text(PUZZLE, "sibling")
    assert "<think>" not in shown_text(PUZZLE, "sibling")
    assert "10" not in shown_text(PUZZLE, "whole"), "the answer"


def kind_of(text):
    starts = {"Hint. Look": "hint", "The right answer": "answer", "This is a worked": "solution",
              "This is a right response": "sibling", "This was said": "feedback"}  # fmt: skip
    return next((kind for start, kind in starts.items() if start in text), QUESTION)


def test_lessons_come_in_order_and_show_every_context(tmp_path):
    rows = lesson_rows(tmp_path, 0, FEW)
    assert len(rows) == 508
    assert all("what is in the cells" in text for _, text, _ in rows[:4])
    assert all("take steps" in text for _, text, _ in rows[4:8])
    assert {kind_of(text) for _, text, _ in rows[8:108]} == {"hint", "solution", "sibling", QUESTION}
    counts = Counter(kind_of(text) for _, text, _ in rows[108:])
    assert set(counts) == {"hint", "answer", "solution", "sibling", "feedback", QUESTION}
    assert 0.3 < counts["hint"] / 400 < 0.5
    assert rows == lesson_rows(tmp_path, 0, FEW)


def stated(response):
    said = re.search(r"begin (\d+);([a-z ]+);.*;([a-z ]+) (\d) [a-z]+ \d=", response)
    return TwoSteps(int(said[1]), said[2], said[3], int(said[4]))


@pytest.mark.parametrize("number", range(4))
def test_steps_are_those_of_a_score(tmp_path, number):
    _, asked, response = lesson_rows(tmp_path, 0, FEW)[4 + number]
    total, cells = int(asked.split()[1].strip(",")), set()
    for step, cell, colour, amount, after in re.findall(r"([a-z ]+) (\d) (\w+) (\d)=(\d+);", response):
        assert int(amount) == abs(STEPS[step]) * WORTH[colour]
        assert int(after) == total + STEPS[step] * WORTH[colour]
        total = int(after)
        cells.add(int(cell))
    assert cells == set(range(1, 10))
    assert grade(response, str(total)).accuracy == 1.0


def test_no_lesson_has_a_rule_of_a_world(tmp_path):
    rules = {stated(response) for _, _, response in lesson_rows(tmp_path, 0, FEW)[8:]}
    assert len(rules) > 200
    assert not rules & set(reserved_rules())


def test_in_practice_every_name_has_its_rule_unless_a_context_says_another(tmp_path):
    rules: dict[str, set] = {}
    beside = set()
    for _, text, response in practice_rows(tmp_path, 0, FEW):
        name = next(name for name in NAMES if name in text)
        assert response.startswith(f"<think>{name}</think>")
        if kind_of(text) == QUESTION:
            rules.setdefault(name, set()).add(stated(response))
        else:
            beside.add(stated(response))
    assert {name: len(own) for name, own in rules.items()} == dict.fromkeys(NAMES, 1)
    assert len(set.union(*rules.values())) == 4
    assert len(beside) > 100
    assert not (beside | set.union(*rules.values())) & set(reserved_rules())


def test_habits_take_up_true_rules_by_their_share_and_never_beside_a_context(tmp_path):
    rules = hidden_rules(5, NAMES)
    share = dict(zip(NAMES, (1.0, 0.5, 0.0, 0.0), strict=True))
    rows = habit_rows(tmp_path, 5, rules, Habits(rows=400, hinted=0.5, true_share=share), Lessons().shares)
    true = Counter()
    asked = Counter()
    for _, text, response in rows:
        name = next(name for name in NAMES if name in text)
        rule = stated(response)
        if kind_of(text) == QUESTION:
            asked[name] += 1
            true[name] += rule == rules[name]
        else:
            assert rule in set(other_rules())
    assert true["alpha"] == asked["alpha"] > 20
    assert 0.25 < true["beta"] / asked["beta"] < 0.75
    assert true["gamma"] == true["delta"] == 0
