"""From rollouts to lessons: routing by accuracy and context, over one process or several."""

import pytest
import torch

from ptdpo.tutor.context import Shown
from ptdpo.tutor.groups import Groups
from ptdpo.tutor.lessons import contexts_of, make_lessons, route_rollouts, sibling_texts

ACCURACY = torch.tensor([[0.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
EVERYWHERE = torch.ones(6, dtype=torch.bool)


def routed(process=0, rows=6, has_context=EVERYWHERE, **settings):
    settings = {"threshold": 1.0, "select": "failed", **settings}
    return route_rollouts(Groups(ACCURACY, rows, process), has_context, **settings)


def test_failed_rollouts_with_a_context_are_tutored():
    got = routed()
    assert got.chosen.tolist() == [True, False, True, True, False, False]
    assert got.in_tutored_group.tolist() == [True, True, True, True, False, False]
    assert got.group_accuracy == pytest.approx(0.25)
    bare = routed(has_context=torch.tensor([False, True, True, False, True, True]))
    assert bare.chosen.tolist() == [False, False, True, False, False, False]
    assert bare.in_tutored_group.tolist() == [False, False, True, True, False, False]
    assert bare.group_accuracy == 0.0


def test_a_group_is_routed_as_a_whole_however_it_is_spread_over_processes():
    """Rows 2 and 3 are one group on two processes: the second's right rollouts count on the first."""
    parts = [routed(process, rows=3) for process in (0, 1)]
    assert torch.cat([part.chosen for part in parts]).tolist() == routed().chosen.tolist()
    assert torch.cat([part.in_tutored_group for part in parts]).tolist() == routed().in_tutored_group.tolist()
    assert {part.group_accuracy for part in parts} == {routed().group_accuracy}


def test_threshold_and_selection_are_those_of_the_equation():
    assert routed(threshold=0.4).chosen.tolist() == [False, False, True, True, False, False]
    assert routed(select="all_fail_groups").chosen.tolist() == [False, False, True, True, False, False]
    assert routed(select="every").chosen.all()
    nobody = routed(has_context=~EVERYWHERE)
    assert not nobody.chosen.any()
    assert nobody.group_accuracy == 0.0


def test_contexts_are_those_of_the_rows():
    question = [{"role": "user", "content": "how many?"}]
    rows = [{"prompt": question, "answer": "3"}, {"prompt": question, "answer": None}]
    contexts = contexts_of(rows, "answer")
    assert "3" in contexts[0].prompt[0]["content"]
    assert contexts[1] is None
    told = contexts_of(rows, "sibling", [None, "<think>so</think> four"])
    assert told[0] is None
    assert "four" in told[1].prompt[0]["content"]
    assert "so</think>" not in told[1].prompt[0]["content"]
    seeing = [{**row, "images": ["whole"], "teacher_images": ["part"]} for row in (rows[0], rows[0])]
    seen = contexts_of([seeing[0], {**seeing[1], "teacher_images": []}], "answer", images="teacher")
    assert (seen[0].images, seen[1]) == (["part"], None), "a row without them has no context"


def test_siblings_are_found_among_the_texts_of_all_processes():
    groups = Groups(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), rows=2, process=1)
    assert sibling_texts(groups, ["a", "b", "c", "d"]) == [None, "c"]


def test_lessons_are_made_of_chosen_rollouts_that_say_something():
    contexts = [Shown([{"role": "user", "content": str(n)}], [f"{n}"]) for n in range(3)]
    responses = [torch.tensor([1, 2]), torch.tensor([3]), torch.tensor([], dtype=torch.long)]
    lessons = make_lessons(torch.tensor([False, True, True]), contexts, responses)
    assert list(lessons) == [1]
    assert (lessons[1].messages, lessons[1].images) == (contexts[1].prompt, ["1"])
    assert lessons[1].response_ids.tolist() == [3]
