from inspect import unwrap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptdpo.algo.routing import group_shares, route

ACCURACY = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
MASK = torch.ones(4, 4, 3, dtype=torch.bool)


def rollouts(**settings):
    return route(ACCURACY, MASK, **settings).any(dim=-1)


def test_threshold_one_tutors_every_failed_rollout():
    assert torch.equal(rollouts(), ACCURACY == 0)


def test_lower_thresholds_activate_only_groups_below_them():
    assert torch.equal(rollouts(threshold=0.25).any(1), torch.tensor([True, False, False, False]))
    assert torch.equal(rollouts(threshold=0.26).any(1), torch.tensor([True, True, False, False]))


@pytest.mark.parametrize(("right", "size"), [(1, 5), (2, 5), (3, 5), (7, 10), (3, 10), (1, 3), (2, 3)])
def test_a_group_exactly_at_the_threshold_is_not_activated(right, size):
    """0.7 has no exact binary form; a mean of 7 / 10 must still not count as below it."""
    accuracy = torch.tensor([[1.0] * right + [0.0] * (size - right)])
    mask = torch.ones(1, size, 1, dtype=torch.bool)
    assert not route(accuracy, mask, threshold=right / size).any()
    assert route(accuracy, mask, threshold=right / size + 0.01).any()


def test_all_takes_right_rollouts_of_activated_groups_too():
    chosen = rollouts(select="all")
    assert torch.equal(chosen.all(1), torch.tensor([True, True, True, False]))
    assert not chosen[3].any()


def test_all_fail_groups_takes_only_groups_without_a_success():
    assert torch.equal(rollouts(select="all_fail_groups").any(1), torch.tensor([True, False, False, False]))


def test_positions_outside_the_response_are_never_tutored():
    mask = MASK.clone()
    mask[0, 0, 1:] = False
    mask[0, 1] = False
    chosen = route(ACCURACY, mask)
    assert chosen[0, 0].tolist() == [True, False, False]
    assert not chosen[0, 1].any()
    assert not route(ACCURACY, torch.zeros_like(MASK)).any()


def test_weighted_rewards_are_refused():
    with pytest.raises(ValueError, match=r"0\.1"):
        route(torch.tensor([[0.0, 0.1]]), torch.ones(1, 2, 1))


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.5])
def test_threshold_out_of_range(threshold):
    with pytest.raises(ValueError, match="threshold"):
        route(ACCURACY, MASK, threshold=threshold)


def test_unknown_selection():
    with pytest.raises(ValueError, match="all_fail_groups"):
        unwrap(route)(ACCURACY, MASK, select="some")


def test_group_shares():
    assert group_shares(ACCURACY) == pytest.approx((0.25, 0.5, 0.25))


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=6), st.floats(0.05, 1.0))
def test_only_failed_rollouts_of_groups_below_the_threshold(rights, threshold):
    accuracy = torch.tensor(rights, dtype=torch.float32)
    chosen = route(accuracy, torch.ones(len(rights), 4, 1), threshold=threshold).squeeze(-1)
    for group, row in zip(rights, chosen.tolist(), strict=True):
        below = sum(group) / 4 < threshold - 1e-6
        assert row == [below and not right for right in group] or abs(sum(group) / 4 - threshold) < 1e-5


def test_with_sibling_takes_whoever_has_a_right_one():
    expected = [[False] * 4, [False, True, True, True], [True] * 4, [True] * 4]
    assert rollouts(select="with_sibling").tolist() == expected


def test_failed_with_sibling_and_succeeded():
    accuracy = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    mask = torch.ones(3, 3, 1)
    failed = route(accuracy, mask, select="failed_with_sibling").squeeze(-1)
    assert failed.tolist() == [[False, True, False], [False] * 3, [False] * 3]
    succeeded = route(accuracy, mask, select="succeeded", threshold=0.1).squeeze(-1)
    assert torch.equal(succeeded, accuracy == 1), "whatever the group"


def test_every_takes_all():
    assert rollouts(select="every").all()
