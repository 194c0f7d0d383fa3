"""Bytes that live and bytes that are kept, of sums that can be done by hand."""

import torch

from ptdpo.train.memory.watched import KeptBytes, LiveBytes


def test_the_peak_is_of_what_lived_at_once():
    given = torch.zeros(100)
    with LiveBytes() as watched:
        first = given + 1
        second = first * 2
        del first
        third = second + second
        assert watched.live == 2 * 400
        assert watched.peak == 2 * 400
        third.add_(second).view(10, 10)
        del second, third
    assert watched.live == 0
    assert watched.peak == 2 * 400


def test_gradients_live_as_long_as_they_are_held():
    weight = torch.zeros(10, 10, requires_grad=True)
    with LiveBytes() as watched:
        (weight @ torch.zeros(10, 5)).sum().backward()
    # The gradient of the weight; the operand, the product and its sum are gone.
    assert watched.live == 400
    assert watched.peak > 400


def test_a_storage_is_kept_once_and_weights_are_not_counted():
    weight = torch.zeros(10, 10, requires_grad=True)
    with KeptBytes(beside=[weight]) as kept:
        states = torch.zeros(5, 10, requires_grad=True)
        # The product keeps the states, both factors of the square are the same product.
        out = states @ weight
        _ = out * out
    assert kept.bytes == 2 * 5 * 10 * 4
