"""The fused head against its dense float64 reference: values, gradients, edge cases, memory, refusals."""

import math

import pytest
import torch
import torch.utils.checkpoint
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ptdpo.algo.dense_head import dense_token_stats
from ptdpo.algo.lm_head import concatenate, teacher_topk, token_stats
from tests.algo.head_case import KIND_TAILS, KINDS, METRICS, OUTPUTS, SUPPORTS, Case
from tests.reference import divergence as naive


@pytest.mark.parametrize(("kind", "tail"), KIND_TAILS)
@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("k", [1, 7, 80, 150, 400])
def test_every_setting_equals_the_dense_reference(kind, support, tail, k):
    Case(bias=k == 7).compare(kind=kind, support=support, tail=tail, k=k, temperature=0.7 if k == 80 else 1.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("support", SUPPORTS)
def test_values_equal_the_naive_formulas(kind, support):
    case = Case(tutored=3, vocabulary=40)
    stats, _ = case.run(kind=kind, support=support, k=5)
    student, teacher = case.hidden @ case.weight.T, case.teacher_hidden @ case.teacher_weight.T
    for n, row in enumerate(case.rows.tolist()):
        expected = naive.topk(student[row].tolist(), teacher[n].tolist(), 5, kind=kind, support=support)
        assert stats.divergence[n].item() == pytest.approx(expected, abs=1e-12)
        p = naive.softmax(student[row].tolist())
        assert stats.log_prob[row].item() == pytest.approx(math.log(p[case.targets[row]]), abs=1e-12)
        assert stats.entropy[row].item() == pytest.approx(-math.fsum(x * math.log(x) for x in p), abs=1e-12)


@pytest.mark.parametrize("outputs", [("log_prob",), ("entropy",), ("divergence",), ("log_prob", "divergence")])
def test_each_output_alone_has_its_exact_gradient(outputs):
    Case().compare(k=9, outputs=outputs)


@pytest.mark.parametrize("bias", [False, True])
def test_gradcheck(bias):
    case = Case(tokens=5, vocabulary=23, size=4, tutored=3, bias=bias)
    record = teacher_topk(case.teacher_hidden, case.teacher_weight, case.teacher_bias, k=4)

    def stats(hidden, weight, *rest):
        return token_stats(hidden, weight, case.targets, *rest, teacher=record, rows=case.rows, k=4, vocab_chunk=7)[:3]

    leaves = [t.clone().requires_grad_() for t in (case.hidden, case.weight, case.bias) if t is not None]
    assert torch.autograd.gradcheck(stats, leaves)


def test_float32_meets_its_tolerances():
    Case(tokens=60, vocabulary=3_000, size=32, tutored=40, scale=0.5).compare(torch.float32, 1e-6, 1e-6, k=50)


def test_float32_on_very_peaked_logits():
    case = Case(tokens=60, vocabulary=3_000, size=32, tutored=40, scale=6.0)
    assert (case.hidden @ case.weight.T).softmax(-1).amax(-1).median() > 0.99
    case.compare(torch.float32, 3e-5, 1e-5, k=50)


def test_bfloat16_operands_are_multiplied_in_float32():
    case = Case(tokens=60, vocabulary=3_000, size=32, tutored=40, scale=0.5)
    stats, _ = case.cast(torch.bfloat16).run(dtype=torch.bfloat16, k=50)
    assert {getattr(stats, name).dtype for name in (*OUTPUTS, *METRICS)} == {torch.float32}
    case.compare(torch.bfloat16, 1e-5, 5e-3, k=50)


@pytest.mark.parametrize("chunks", [{"row_chunk": 1, "vocab_chunk": 1}, {"row_chunk": 4, "vocab_chunk": 64}, {}])
def test_chunk_sizes_do_not_change_the_result(chunks):
    Case(vocabulary=131).compare(k=9, chunks=chunks)


def test_many_rows_take_several_blocks(monkeypatch):
    monkeypatch.setattr("ptdpo.algo.fused._BACKWARD_ROWS", 4)
    Case().compare(k=9)


def test_order_of_rows_does_not_matter():
    case = Case()
    stats, gradients = case.run(k=9)
    order = torch.randperm(len(case.rows))
    case.rows, case.teacher_hidden = case.rows[order], case.teacher_hidden[order]
    case.upstream[2] = case.upstream[2][order]
    again, others = case.run(k=9)
    torch.testing.assert_close(again.divergence, stats.divergence[order])
    for mine, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(mine, other)


def test_teacher_and_student_may_keep_different_numbers_of_ids():
    case = Case()
    narrow, _ = case.run(k=5, teacher_k=20)
    wide, _ = case.run(k=20)
    assert (narrow.divergence <= wide.divergence + 1e-12).all()
    assert (narrow.divergence > 0).all()


def test_teacher_may_have_another_hidden_size():
    case = Case()
    record = teacher_topk(torch.randn(6, 5), torch.randn(150, 5), k=9)
    stats = token_stats(case.hidden.float(), case.weight.float(), case.targets, teacher=record, rows=case.rows, k=9)
    assert (stats.divergence > 0).all()


def test_gradients_only_where_they_are_wanted():
    case = Case()
    record = teacher_topk(case.teacher_hidden.requires_grad_(), case.teacher_weight.requires_grad_(), k=9)
    assert not any(t.requires_grad for t in (record.log_probs, record.log_rest, record.log_normaliser))
    for leaf in (case.hidden, case.weight):
        leaf.requires_grad_()
        stats = token_stats(case.hidden, case.weight, case.targets, teacher=record, rows=case.rows, k=9)
        stats.divergence.sum().backward()
        assert leaf.grad.abs().sum() > 0
        leaf.requires_grad_(False)
    assert case.teacher_hidden.grad is None
    assert case.teacher_weight.grad is None
    with torch.no_grad():
        assert not token_stats(case.hidden, case.weight, case.targets).log_prob.requires_grad


def test_a_gradient_step_reduces_the_divergence():
    """The released reference code has a zero gradient here."""
    case = Case()
    record = teacher_topk(case.teacher_hidden, case.teacher_weight, k=9)
    hidden = case.hidden.requires_grad_()

    def value(states):
        return token_stats(states, case.weight, case.targets, teacher=record, rows=case.rows, k=9).divergence.sum()

    (gradient,) = torch.autograd.grad(value(hidden), hidden)
    assert value(hidden - 0.01 * gradient) < value(hidden)


def test_records_are_sliced_joined_and_stored_without_their_head():
    case = Case()
    record = teacher_topk(case.teacher_hidden, case.teacher_weight, k=9)
    stored = [record.with_head(None)[:2], record.with_head(None)[2:]]
    assert [part.weight for part in stored] == [None, None]
    joined = concatenate(stored).to("cpu").with_head(case.teacher_weight)
    a = token_stats(case.hidden, case.weight, case.targets, teacher=record, rows=case.rows, k=9)
    b = token_stats(case.hidden, case.weight, case.targets, teacher=joined, rows=case.rows, k=9)
    assert torch.equal(a.divergence, b.divergence)
    with pytest.raises(ValueError, match="share k"):
        concatenate([record, teacher_topk(case.teacher_hidden, case.teacher_weight, k=8)])
    with pytest.raises(ValueError, match="no teacher record"):
        concatenate([])


def test_probabilities_at_any_id_without_a_head_product():
    case = Case(tokens=30, vocabulary=4_000, tutored=30)
    record = teacher_topk(case.teacher_hidden, case.teacher_weight, k=20)
    ids = torch.randint(4_000, (30, 20))
    with FlopCounterMode(display=False) as counter:
        got = record.log_probs_at(ids)
    expected = (case.teacher_hidden @ case.teacher_weight.T).log_softmax(-1).gather(-1, ids)
    torch.testing.assert_close(got, expected)
    assert 0 < counter.get_total_flops() <= 0.05 * 2 * case.teacher_hidden.numel() * 4_000


def test_bfloat16_autocast_rounds_operands_only():
    case = Case(scale=0.5)
    hidden, weight = case.hidden.float().requires_grad_(), case.weight.float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        record = teacher_topk(case.teacher_hidden.float(), case.teacher_weight.float(), k=9)
        stats = token_stats(hidden, weight, case.targets, teacher=record, rows=case.rows, k=9)
        stats.divergence.sum().backward()
    assert hidden.grad.dtype == weight.grad.dtype == torch.float32
    expected, _ = case.cast(torch.bfloat16).run(k=9)
    torch.testing.assert_close(stats.divergence.double(), expected.divergence, rtol=1e-5, atol=1e-5)


class LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor that any operation made."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


def test_the_logits_are_never_held():
    case = Case(tokens=96, vocabulary=5_000, size=8, tutored=90)
    chunks = {"row_chunk": 4, "vocab_chunk": 200}
    with LargestTensor() as fused:
        case.run(k=9, chunks=chunks)
    with LargestTensor() as dense:
        case.run(dense_token_stats, k=9)
    assert dense.largest >= 90 * 5_000
    assert fused.largest <= max(4 * 5_056, 96 * 200, 5_000 * 8)


@given(
    tokens=st.integers(1, 9),
    vocabulary=st.integers(2, 300),
    size=st.integers(1, 9),
    k=st.integers(1, 40),
    row_chunk=st.integers(1, 10),
    vocab_chunk=st.integers(1, 300),
    seed=st.integers(0, 999),
    data=st.data(),
)
def test_any_shape_equals_the_dense_reference(tokens, vocabulary, size, k, row_chunk, vocab_chunk, seed, data):
    case = Case(tokens, vocabulary, size, data.draw(st.integers(1, tokens)), seed=seed)
    case.compare(value=1e-9, gradient=1e-9, k=k, chunks={"row_chunk": row_chunk, "vocab_chunk": vocab_chunk})


def test_activation_checkpointing_around_the_head():
    case = Case()
    record = teacher_topk(case.teacher_hidden, case.teacher_weight, k=9)
    leaves = [case.hidden.requires_grad_(), case.weight.requires_grad_()]

    def loss(hidden, weight):
        stats = token_stats(hidden, weight, case.targets, teacher=record, rows=case.rows, k=9)
        return stats.log_prob.sum() + stats.divergence.sum()

    expected = torch.autograd.grad(loss(*leaves), leaves)
    got = torch.autograd.grad(torch.utils.checkpoint.checkpoint(loss, *leaves, use_reentrant=False), leaves)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
