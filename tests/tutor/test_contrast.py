"""What a context is contrasted with: wrong siblings in its own words, or the question alone."""

import pytest
import torch

from ptdpo.data.prompts import conversation
from ptdpo.tutor.context import Shown, privileged_prompt
from ptdpo.tutor.contrast import contrasts_of, wrong_texts
from ptdpo.tutor.groups import Groups

ROW = {"prompt": conversation("how many?"), "solution": "one and two are 3"}


@pytest.mark.parametrize("context", ["sibling", "solution"])
def test_wrong_responses_stand_where_the_right_one_does(context):
    """What both contexts have in common is to cancel: they differ in the response alone."""
    told = {"sibling": "it is 3", "solution": ROW["solution"]}[context]
    (right,) = privileged_prompt(ROW, context, "it is 3")
    wrong = [["<think>hm</think>it is 4", "5"], [""]]
    (first, second), none = contrasts_of([ROW, ROW], context, "failed_siblings", wrong=wrong)
    assert [message["content"] for shown in (first, second) for message in shown.prompt] == [
        right["content"].replace(told, wrong) for wrong in ("it is 4", "5")
    ]
    assert none == [], "a response that says nothing shows nothing"


def test_the_question_alone_is_what_the_policy_reads():
    row = {**ROW, "images": ["whole"], "teacher_images": ["part"]}
    assert contrasts_of([row], "solution", "question", images="teacher") == [[Shown(ROW["prompt"], ["whole"])]]


@pytest.mark.parametrize(("images", "seen"), [("question", ["other"]), ("both", ["whole", "other"])])
def test_other_images_stand_where_the_teachers_do(images, seen):
    row = {**ROW, "images": ["whole"], "teacher_images": ["part"], "contrast_images": ["other"]}
    (shown,), none = contrasts_of([row, {**row, "contrast_images": None}], "solution", "images", images=images)
    assert shown == Shown(privileged_prompt(ROW, "solution"), seen)
    assert none == [], "a row without them has nothing to be contrasted with"
    (told,) = contrasts_of([row], "sibling", "images", siblings=["it is 3"], images=images)
    assert "it is 3" in told[0].prompt[0]["content"]


def test_wrong_texts_are_those_of_all_processes():
    groups = Groups(torch.tensor([[0.0, 1.0, 0.0, 0.0]]), rows=2, process=1)
    assert wrong_texts(groups, ["a", "b", "c", "d"], 2) == [["d", "a"], ["a", "c"]]
