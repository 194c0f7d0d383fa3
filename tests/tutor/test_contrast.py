"""What a context is contrasted with: wrong siblings in its own words, or the question alone."""

import pytest
import torch

from ptdpo.data.prompts import conversation
from ptdpo.tutor.context import privileged_prompt
from ptdpo.tutor.contrast import contrasts_of, wrong_texts
from ptdpo.tutor.groups import Groups

ROW = {"prompt": conversation("how many?"), "solution": "one and two are 3"}


@pytest.mark.parametrize("context", ["sibling", "solution"])
def test_wrong_responses_stand_where_the_right_one_does(context):
    """What both contexts have in common is to cancel: they differ in the response alone."""
    told = {"sibling": "it is 3", "solution": ROW["solution"]}[context]
    (right,) = privileged_prompt(ROW, context, "it is 3")
    (first, second), none = contrasts_of(
        [ROW, ROW], context, "failed_siblings", [["<think>hm</think>it is 4", "5"], [""]]
    )
    assert [message["content"] for message in (*first, *second)] == [
        right["content"].replace(told, wrong) for wrong in ("it is 4", "5")
    ]
    assert none == [], "a response that says nothing shows nothing"


def test_the_question_alone_is_what_the_policy_reads():
    assert contrasts_of([ROW], "solution", "question", []) == [[ROW["prompt"]]]


def test_wrong_texts_are_those_of_all_processes():
    groups = Groups(torch.tensor([[0.0, 1.0, 0.0, 0.0]]), rows=2, process=1)
    assert wrong_texts(groups, ["a", "b", "c", "d"], 2) == [["d", "a"], ["a", "c"]]
