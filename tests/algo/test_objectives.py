import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptdpo.algo.objectives import EPSILON, ratio_weights, tutoring_loss


@given(st.lists(st.lists(st.floats(0, 0.69), max_size=5), min_size=1, max_size=6))
def test_micro_batches_add_up_to_the_mean_over_the_step(parts):
    count = sum(map(len, parts))
    shares = [tutoring_loss(torch.tensor(part, dtype=torch.float64), count) for part in parts]
    expected = sum(map(sum, parts)) / (count + EPSILON)
    assert sum(share.item() for share in shares) == pytest.approx(expected, abs=1e-12)


def test_averaging_over_processes_gives_the_global_mean():
    left, right = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([])
    shares = [tutoring_loss(part, 3, processes=2) for part in (left, right)]
    assert (sum(shares) / 2).item() == pytest.approx(0.2, abs=1e-6)


def test_nothing_tutored_is_zero_with_zero_gradient():
    divergence = torch.zeros(0, requires_grad=True)
    loss = tutoring_loss(divergence, 0)
    loss.backward()
    assert loss.item() == 0
    assert divergence.grad is not None


def test_a_count_of_the_micro_batch_alone_is_refused():
    with pytest.raises(ValueError, match="optimiser step"):
        tutoring_loss(torch.zeros(5), 4)


def test_ratio_weights_are_clipped_from_above_and_detached():
    log_prob = torch.tensor([0.0, -1.0, 2.0, -3.0], requires_grad=True)
    weights = ratio_weights(log_prob, torch.tensor([0.0, 0.0, 0.0, -3.0]), 2.0)
    assert weights.tolist() == pytest.approx([1.0, math.exp(-1), 2.0, 1.0])
    assert not weights.requires_grad
