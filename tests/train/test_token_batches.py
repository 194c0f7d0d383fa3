"""Parts of a batch: whole groups, within the budget, images with their rows."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from ptdpo.train.trl.token_batches import combined, select_rows, split_by_tokens


def made(groups):
    """The groups of rows, and the masks, of a batch of (prompt length, response lengths) groups."""
    rows = [(n, prompt, response) for n, (prompt, responses) in enumerate(groups) for response in responses]
    longest, most = max(p for _, p, _ in rows), max(r for *_, r in rows)
    return (
        [n for n, *_ in rows],
        torch.tensor([[0] * (longest - p) + [1] * p for _, p, _ in rows]),
        torch.tensor([[1] * r + [0] * (most - r) for *_, r in rows]),
    )


def test_as_many_groups_as_fit():
    batch = made([(10, [5, 5]), (10, [1, 1]), (4, [2, 2]), (30, [9])])
    assert split_by_tokens(*batch, 1, shared=True) == [[0, 1], [2, 3], [4, 5], [6]]
    assert split_by_tokens(*batch, 32, shared=True) == [[0, 1, 2, 3], [4, 5], [6]]
    assert split_by_tokens(*batch, 40, shared=True) == [[0, 1, 2, 3, 4, 5], [6]]
    assert split_by_tokens(*batch, 1_000, shared=True) == [[0, 1, 2, 3, 4, 5, 6]]
    assert split_by_tokens(*batch, 4 * 39, shared=False) == [[0, 1, 2, 3], [4, 5, 6]]


@given(
    st.lists(st.tuples(st.integers(1, 9), st.lists(st.integers(0, 9), min_size=1, max_size=4)), min_size=1, max_size=6),
    st.integers(1, 99),
    st.booleans(),
)
def test_every_row_once_in_order(groups, budget, shared):
    batch = made(groups)
    parts = split_by_tokens(*batch, budget, shared=shared)
    assert [row for part in parts for row in part] == list(range(sum(len(responses) for _, responses in groups)))
    sizes = [p + sum(r) for p, r in groups]
    if shared:
        for part in parts:
            inside = {batch[0][row] for row in part}
            assert len(inside) == 1 or sum(sizes[n] for n in inside) <= budget


def test_metrics_of_parts_are_those_of_the_whole():
    assert combined("kl", [1.0, 4.0], [3.0, 1.0]) == 1.75
    assert combined("kl", [float("nan"), 4.0], [3.0, 1.0]) == 4.0
    assert combined("kl", [5.0, 4.0], [0.0, 2.0]) == 4.0, "a part that is only there for other processes"
    assert combined("clip_ratio/low_min", [0.5, 0.25], [1.0, 9.0]) == 0.25
    assert combined("clip_ratio/high_max", [0.5, 0.25], [1.0, 9.0]) == 0.5
    assert math.isnan(combined("kl", [float("nan")], [1.0]))
    assert combined("kl", [2.0, 2.0], [0.0, 0.0]) == 2.0


def test_images_follow_their_rows():
    batch = {
        "prompt_ids": torch.arange(3),
        "num_images": [1, 2, 1],
        "pixel_values": torch.arange(4).repeat_interleave(4).unsqueeze(-1),
        "image_grid_thw": torch.tensor([[1, 2, 2]] * 4),
        "num_items_in_batch": torch.tensor(7),
        "tutoring": ["a", "b", "c"],
        "nothing": None,
    }
    got = select_rows(batch, [1, 2])
    assert got["prompt_ids"].tolist() == [1, 2]
    assert got["pixel_values"].flatten().unique().tolist() == [1, 2, 3]
    assert got["image_grid_thw"].shape == (3, 3)
    assert (got["tutoring"], got["nothing"], got["num_items_in_batch"].item()) == (["b", "c"], None, 7)
    assert got["num_images"] == [2, 1]
