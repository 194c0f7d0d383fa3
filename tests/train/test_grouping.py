"""Groups move as wholes, over any split into processes."""

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st
from trl.trainer import grpo_trainer

from ptdpo.train.trl.grouping import groups_kept_together, shuffle_groups


@given(st.integers(1, 6), st.integers(1, 24), st.integers(0, 12), st.integers(0, 99))
def test_groups_move_as_wholes(generations, count, first_row, seed):
    torch.manual_seed(seed)
    group = [(first_row + n) // generations for n in range(count)]
    rows = {"row": torch.arange(count), "name": [str(n) for n in range(count)], "none": None, "total": torch.tensor(7)}
    got = shuffle_groups(rows, generations=generations, first_row=first_row)
    order = got["row"].tolist()
    assert sorted(order) == list(range(count))
    assert got["name"] == [str(n) for n in order]
    assert got["none"] is None
    assert got["total"] == 7
    seen = [group[n] for n in order]
    assert all(seen[n] == seen[n - 1] or seen[n] not in seen[:n] for n in range(1, count)), "a group came apart"
    assert all(a < b for a, b in itertools.pairwise(order) if group[a] == group[b])


def test_groups_are_shuffled():
    rows = {"row": torch.arange(40)}
    orders = {tuple(shuffle_groups(rows, generations=4, first_row=0)["row"].tolist()) for _ in range(5)}
    assert len(orders) > 1


def test_trl_shuffles_groups_only_inside_the_context():
    original = grpo_trainer.shuffle_sequence_dict
    with groups_kept_together(2, 0):
        order = grpo_trainer.shuffle_sequence_dict({"row": torch.arange(8)})["row"].tolist()
        assert all(order[n] + 1 == order[n + 1] for n in range(0, 8, 2))
    assert grpo_trainer.shuffle_sequence_dict is original
