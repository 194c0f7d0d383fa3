"""Which rollouts are whose, and who did well: over one process or several."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from ptdpo.tutor.groups import Groups, group_of_rows


def test_the_group_of_a_row_is_counted_over_all_processes():
    assert group_of_rows(8, 4) == [0, 0, 0, 0, 1, 1, 1, 1]
    assert group_of_rows(4, 3, first_row=4) == [1, 1, 2, 2], "a group may begin on the process before"


def test_right_siblings_are_the_next_right_rollout_of_the_group():
    accuracy = torch.tensor([[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]])
    assert Groups(accuracy, rows=8).right_siblings() == [1, 3, 3, 1, 6, 6, None, 6]
    assert Groups(torch.tensor([[0.0, 0.0], [1.0, 1.0]]), rows=4).right_siblings() == [None, None, 3, 2]
    second = Groups(accuracy, rows=4, process=1)
    assert second.right_siblings() == [6, 6, None, 6], "rollouts are counted over all processes"


def test_wrong_siblings_are_the_next_wrong_rollouts_of_the_group():
    accuracy = torch.tensor([[0.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]])
    first, second, third = (Groups(accuracy, rows=4, process=process).wrong_siblings(2) for process in range(3))
    assert first == [[2], [2, 0], [0], [0, 2]]
    assert second == [[5, 7], [7, 4], [7, 4], [4, 5]]
    assert third == [[11], [11], [11], []], "a rollout is not its own sibling"


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 4))
def test_the_parts_of_all_processes_are_the_whole(groups, generations, processes):
    values = torch.arange(float(groups * generations * processes)).view(-1, generations)
    rows = values.numel() // processes
    parts = [Groups(values, rows, process) for process in range(processes)]
    assert torch.cat([part.mine(values) for part in parts]).tolist() == values.flatten().tolist()
    numbers = [number for part in parts for number in part.of_rows()]
    assert numbers == [row // generations for row in range(values.numel())]
