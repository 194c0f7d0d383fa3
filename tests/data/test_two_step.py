"""The study's puzzles: rules that worlds keep for themselves, hints that say more by grade, answers that add up."""

import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ptdpo.data.mosaic import NAMES, WORTH
from ptdpo.data.two_step import (
    GRADES,
    STEPS,
    TwoSteps,
    all_rules,
    draw_mosaics,
    feedback,
    graded_hint,
    hidden_rules,
    make_puzzles,
    other_rules,
    reserved_rules,
    with_grades,
    with_views,
    worked_response,
)
from ptdpo.rewards import grade

CELLS = ("red", "blue", "green", "yellow", "red", "red", "blue", "blue", "green")
RULE = TwoSteps(beginning=7, line="middle row", step="take twice", cell=7)


def test_a_score_is_the_beginning_the_line_and_the_last_cell():
    assert RULE.score(CELLS) == 7 + (0 + 3 + 3) - 2 * 2
    assert replace(RULE, step="add").score(CELLS) == 7 + 6 + 2
    assert len(all_rules()) == 6 * 6 * 4 * 9 == len(set(all_rules()))


def test_no_score_is_negative():
    worst = ("yellow",) * 8 + ("red",)
    assert min(rule.score(worst) for rule in all_rules()) == 0


def test_worlds_have_rules_that_nothing_was_read_with():
    reserved = set(reserved_rules())
    assert not reserved & set(other_rules())
    assert len(reserved) + len(other_rules()) == len(all_rules())
    for world in range(20):
        rules = hidden_rules(world, NAMES)
        assert set(rules) == set(NAMES)
        assert set(rules.values()) <= reserved
        for part in ("line", "cell", "beginning"):
            assert len({getattr(rule, part) for rule in rules.values()}) == len(NAMES), part
    assert hidden_rules(3, NAMES) == hidden_rules(3, NAMES) != hidden_rules(4, NAMES)


def matching(hint_of):
    """Return how many rules have the same hint as ``RULE``."""
    return sum(hint_of(rule) == hint_of(RULE) for rule in all_rules())


def test_each_grade_leaves_fewer_rules_open():
    left = [matching(lambda rule, one=one: graded_hint(rule, one)) for one in GRADES]
    assert GRADES == ("none", "look", "order", "whole")
    assert left == [1296, 24, 6, 1]


def test_a_hint_names_no_cell_colour_and_no_answer():
    for one in GRADES[1:]:
        hint = graded_hint(RULE, one)
        assert not any(colour in f"{hint.look} {hint.reason}" for colour in WORTH)


def test_feedback_says_one_part_of_the_rule():
    said = {feedback(RULE, random.Random(n)) for n in range(50)}
    assert said == {"begin with 7.", "the line is middle row.", "the step is take twice.", "the cell is cell 7."}


@pytest.mark.parametrize("step", STEPS)
def test_the_worked_response_is_right_and_its_totals_follow_each_other(step):
    rule = replace(RULE, step=step)
    response = worked_response("beta", rule, CELLS)
    verdict = grade(response, str(rule.score(CELLS)))
    assert (verdict.accuracy, verdict.format) == (1.0, 1.0)
    name, said = response.removeprefix("<think>").split("</think>")
    assert name == "beta"
    work = re.fullmatch(
        r"begin 7;middle row;4 yellow=7;5 red=10;6 red=13;([a-z ]+) 7 blue (\d)=(\d+);\\boxed{\3}", said
    )
    assert work, "what was said after the thinking has the work"
    assert work[1] == step
    assert int(work[2]) == abs(STEPS[step]) * WORTH["blue"]
    assert int(work[3]) == 13 + STEPS[step] * 2


def test_mosaics_depend_on_split_seed_and_place_only(tmp_path):
    some, more = draw_mosaics(tmp_path / "a", "test", 2, 5), draw_mosaics(tmp_path / "b", "test", 3, 5)
    assert [cells for _, cells in some] == [cells for _, cells in more[:2]]
    assert [Path(one).read_bytes() for one, _ in some] == [Path(one).read_bytes() for one, _ in more[:2]]
    assert draw_mosaics(tmp_path / "c", "test", 2, 6)[0][1] != some[0][1]


def test_puzzles_carry_name_answer_solution_and_feedback():
    mosaics = [("a.png", CELLS), ("b.png", CELLS)]
    first, second = make_puzzles(mosaics, [("alpha", RULE), ("beta", replace(RULE, cell=1))], "key")
    assert (first.problem.id, first.problem.images, first.problem.answer) == ("key-0", ("a.png",), "9")
    assert (first.problem.source, second.problem.source) == ("two-step-alpha", "two-step-beta")
    assert "beta" in second.problem.problem
    assert first.solution.response == worked_response("alpha", RULE, CELLS)
    assert first.problem.feedback
    with pytest.raises(ValueError, match="shorter"):
        make_puzzles(mosaics, [("alpha", RULE)], "key")


def test_graded_hints_stand_from_vague_to_explicit_each_by_itself(tmp_path):
    (puzzle,) = make_puzzles(draw_mosaics(tmp_path, "train", 1, 5), [("alpha", RULE)], "p")
    look, order, whole = with_grades(puzzle).hints
    assert "middle row, cell 7" in look
    assert "7, add" not in order
    assert "take twice" in order
    assert "begin 7, add the line, then take twice the cell" in whole


def test_views_show_the_cells_of_a_rule_and_of_no_rule_like_it(tmp_path):
    (puzzle,) = make_puzzles(draw_mosaics(tmp_path, "train", 1, 5), [("alpha", RULE)], "p")
    problem = with_views(puzzle, tmp_path)
    whole, teacher, contrast = (
        np.asarray(Image.open(path).convert("RGB"))
        for path in (*puzzle.problem.images, *problem.teacher_images, *problem.contrast_images)
    )
    side = whole.shape[0] // 3
    cells = [np.s_[side * (n // 3) : side * (n // 3 + 1), side * (n % 3) : side * (n % 3 + 1)] for n in range(9)]
    seen = [n for n in range(9) if teacher[cells[n]].any()]
    assert tuple(seen) == RULE.positions == (3, 4, 5, 6)
    assert all((teacher[cells[n]] == whole[cells[n]]).all() for n in seen)
    beside = {n for n in range(9) if contrast[cells[n]].any()}
    assert 3 <= len(beside) <= 4
    assert beside != set(seen)
    assert problem.images == puzzle.problem.images
