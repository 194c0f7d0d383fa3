"""Attention within a packed row equals dense attention under the mask it never makes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptdpo.models import packed_attention
from ptdpo.models.packed_attention import PackedRow, lay_out, shared_prefix_attention

HEADS, KEY_HEADS, DIM = 4, 2, 8


def layout(groups):
    """The packed row of (prompt, response lengths) groups, and its dense mask."""
    laid, start = [], 0
    for prompt, lengths in groups:
        laid.append(lay_out(start, prompt, lengths, torch.device("cpu"), torch.float64))
        start += prompt + sum(lengths)
    mask = torch.zeros(start, start, dtype=torch.bool)
    first = 0
    for prompt, lengths in groups:
        place = first + prompt
        mask[first:place, first:place] = torch.ones(prompt, prompt).tril().bool()
        for length in lengths:
            mask[place : place + length, first : first + prompt] = True
            mask[place : place + length, place : place + length] = torch.ones(length, length).tril().bool()
            place += length
        first = place
    return PackedRow(tuple(laid)), mask


def states(length):
    return [
        torch.randn(1, heads, length, DIM, dtype=torch.float64, requires_grad=True)
        for heads in (HEADS, KEY_HEADS, KEY_HEADS)
    ]


def dense(query, key, value, mask):
    key, value = (states.repeat_interleave(HEADS // KEY_HEADS, dim=1) for states in (key, value))
    scores = (query @ key.transpose(-1, -2) / DIM**0.5).masked_fill(~mask, -torch.inf)
    return (scores.softmax(dim=-1) @ value).transpose(1, 2)


@pytest.fixture(params=[1, 3, 128])
def least_block(request, monkeypatch):
    monkeypatch.setattr(packed_attention, "LEAST_BLOCK", request.param)
    return request.param


def check(groups):
    packed, mask = layout(groups)
    query, key, value = states(len(mask))
    module = torch.nn.Module()
    module.num_key_value_groups = HEADS // KEY_HEADS
    got, _ = shared_prefix_attention(module, query, key, value, None, packed=packed)
    expected = dense(query, key, value, mask)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    weights = torch.randn_like(expected)
    gradients = torch.autograd.grad((got * weights).sum(), (query, key, value))
    for gradient, reference in zip(
        gradients, torch.autograd.grad((expected * weights).sum(), (query, key, value)), strict=True
    ):
        torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "groups",
    [
        [(3, [5, 5, 5])],
        [(3, [9, 4, 4, 1])],
        [(1, [1])],
        [(4, [])],
        [(2, [7]), (5, [8, 2]), (3, [])],
        [(6, [12, 12]), (2, [12, 11])],
    ],
)
def test_equals_dense_attention(groups, least_block):
    check(groups)


lengths = st.lists(st.integers(1, 14), max_size=5).map(lambda found: sorted(found, reverse=True))


@given(st.lists(st.tuples(st.integers(1, 6), lengths), min_size=1, max_size=3), st.sampled_from([1, 2, 5, 128]))
def test_equals_dense_attention_for_any_shape(groups, least):
    before = packed_attention.LEAST_BLOCK
    packed_attention.LEAST_BLOCK = least
    try:
        check(groups)
    finally:
        packed_attention.LEAST_BLOCK = before


def test_blocks_leave_out_hidden_keys_and_ended_responses(monkeypatch):
    seen = []
    sdpa = torch.nn.functional.scaled_dot_product_attention

    def spy(query, key, value, **kwargs):
        seen.append((query.size(0), query.size(2), key.size(2)))
        return sdpa(query, key, value, **kwargs)

    monkeypatch.setattr(packed_attention, "LEAST_BLOCK", 4)
    packed, mask = layout([(3, [8, 4, 4])])
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    module = torch.nn.Module()
    module.num_key_value_groups = HEADS // KEY_HEADS
    shared_prefix_attention(module, *states(len(mask)), None, packed=packed)
    prompt, *first = seen[:3]
    assert prompt == (1, 3, 3)
    assert first == [(3, 4, 3 + 4)] * 2, "heads that share keys take turns"
    assert seen[3:] == [(1, 4, 3 + 8)] * 2, "two of the responses have ended"
