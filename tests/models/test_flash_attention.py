"""The one call of a FlashAttention kernel: its sequences, by a kernel written out in float64, and when it is made."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptdpo.models import flash_attention
from ptdpo.models.flash_attention import attend, compute_dtype, sequences_of, takes
from ptdpo.models.packed_attention import PackedRow, lay_out, shared_prefix_attention
from tests.models.test_packed_attention import DIM, HEADS, KEY_HEADS, dense, layout, states

CPU = torch.device("cpu")


def written_out(query, key, value, sequences, dropout, scaling):
    """The kernel's contract: in each sequence the last query sees the last key, and the one before it one less."""
    assert dropout == 0
    outputs = []
    queries, keys = sequences.query_ends.tolist(), sequences.key_ends.tolist()
    for n in range(len(queries) - 1):
        q = query[queries[n] : queries[n + 1]].transpose(0, 1)
        k, v = (x[keys[n] : keys[n + 1]].transpose(0, 1).repeat_interleave(HEADS // KEY_HEADS, 0) for x in (key, value))
        assert q.size(1) <= sequences.most_queries
        assert k.size(1) <= sequences.most_keys
        seen = torch.ones(q.size(1), k.size(1), dtype=torch.bool).tril(k.size(1) - q.size(1))
        scores = (q @ k.transpose(1, 2) * (scaling or DIM**-0.5)).masked_fill(~seen, -torch.inf)
        outputs.append((scores.softmax(-1) @ v).transpose(0, 1))
    return torch.cat(outputs)


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr(flash_attention, "flash", written_out)


@pytest.mark.usefixtures("kernel")
@given(st.lists(st.tuples(st.integers(1, 5), st.lists(st.integers(1, 6), max_size=4)), min_size=1, max_size=3))
def test_equals_dense_attention(groups):
    _, mask = layout(groups)
    query, key, value = states(len(mask))
    got = attend(query, key, value, sequences_of(groups, CPU), 0.0, None)
    expected = dense(query, key, value, mask)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    weights = torch.randn_like(expected)
    mine, others = (torch.autograd.grad((out * weights).sum(), (query, key, value)) for out in (got, expected))
    for gradient, reference in zip(mine, others, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-12)


def test_the_longest_sequences_are_what_the_kernel_is_told():
    sequences = sequences_of([(3, [5, 2]), (9, [1])], CPU)
    assert (sequences.most_queries, sequences.most_keys) == (9, 10)
    assert sequences.query_ends.tolist() == [0, 3, 8, 10, 19, 20]
    assert sequences.key_ends.tolist() == [0, 3, 11, 16, 25, 35]
    assert sequences.query_ends.dtype == sequences.key_ends.dtype == torch.int32


def test_it_computes_in_the_type_of_autocast():
    query = torch.zeros(1, 1, 1, 8)
    assert compute_dtype(query) == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert compute_dtype(query) == torch.bfloat16


def test_on_a_cpu_it_is_not_called():
    assert not takes(torch.zeros(1, 1, 1, 8, dtype=torch.bfloat16))


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("called", [True, False])
def test_a_row_with_sequences_takes_the_kernel_where_it_can(monkeypatch, called):
    groups = [(3, [9, 4, 1]), (2, [5])]
    packed, mask = layout(groups)
    packed = PackedRow(packed.groups, sequences_of(groups, CPU))
    query, key, value = states(len(mask))
    calls = []
    monkeypatch.setattr(flash_attention, "takes", lambda _: called)
    monkeypatch.setattr(flash_attention, "flash", lambda *args: calls.append(1) or written_out(*args))
    module = torch.nn.Module()
    module.num_key_value_groups = HEADS // KEY_HEADS
    got, _ = shared_prefix_attention(module, query, key, value, None, packed=packed, scaling=0.3)
    torch.testing.assert_close(got, dense(0.3 * DIM**0.5 * query, key, value, mask), rtol=0, atol=1e-12)
    assert len(calls) == called


def test_windows_and_images_that_look_ahead_do_not_take_it():
    narrow = PackedRow((lay_out(0, 4, [6, 5], CPU, windows=[5, 100]),))
    assert narrow.is_causal(None)
    assert narrow.is_causal(100)
    assert not narrow.is_causal(5)
    images = PackedRow((lay_out(0, 4, [6], CPU, image_blocks=torch.tensor([-1, 0, 0, -1])),))
    assert not images.is_causal(None)
