"""The fused head at the edges: equal, disjoint and impossible tokens, tails that underflow, no rows."""

import math

import pytest
import torch
import torch.utils.checkpoint

from ptdpo.algo.dense_head import dense_token_stats
from ptdpo.algo.lm_head import teacher_topk, token_stats
from tests.algo.head_case import KIND_TAILS, KINDS, SUPPORTS, Case


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 9, 150])
def test_identical_distributions_give_exactly_zero_and_no_gradient(kind, k):
    case = Case(tutored=11)
    hidden = case.hidden.float().requires_grad_()
    record = teacher_topk(hidden.detach(), case.weight.float(), k=k)
    value = token_stats(hidden, case.weight.float(), case.targets, teacher=record, k=k, kind=kind).divergence
    value.sum().backward()
    assert value.abs().max() <= (0 if kind == "jsd" else 1e-6)
    assert hidden.grad.abs().max() <= 2e-6


def test_disjoint_distributions_reach_ln_2():
    never = -torch.inf
    hidden = torch.zeros(2, 3).requires_grad_()
    weight = torch.randn(4, 3)
    bias, teacher_bias = torch.tensor([1.0, 2.0, never, never]), torch.tensor([never, never, 0.5, 1.0])
    for k in (2, 4):
        record = teacher_topk(torch.zeros(2, 3), weight, teacher_bias, k=k)
        stats = token_stats(hidden, weight, torch.tensor([0, 1]), bias, teacher=record, k=k)
        assert stats.divergence.tolist() == pytest.approx([math.log(2)] * 2, abs=1e-6)
        (gradient,) = torch.autograd.grad(stats.divergence.sum(), hidden)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("support", SUPPORTS)
def test_a_tail_that_underflows_stays_finite(kind, support):
    weight = torch.eye(40)
    student, teacher = torch.full((2, 2, 40), -200.0)
    student[0, 0], teacher[0, 0], student[1, 0], teacher[1, 1] = 100.0, 100.0, 60.0, 60.0
    student.requires_grad_()
    stats = token_stats(
        student,
        weight,
        torch.tensor([0, 1]),
        teacher=teacher_topk(teacher, weight, k=2),
        k=2,
        kind=kind,
        support=support,
    )
    sum(part.sum() for part in stats[:3]).backward()
    assert stats.divergence.isfinite().all()
    assert student.grad.isfinite().all()
    assert stats.divergence[0] == 0


@pytest.mark.parametrize(("kind", "tail"), KIND_TAILS)
@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize("k", [4, 8, 10, 12])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_impossible_tokens_on_both_sides(kind, support, tail, k, dtype, tolerance):
    """A union that names every possible token leaves no mass outside, on either side."""
    case = Case(vocabulary=12, tokens=20, tutored=20, bias=True)
    case.bias[[3, 7]] = case.teacher_bias[[3, 7]] = -torch.inf
    case.targets = torch.full_like(case.targets, 5)
    case.compare(kind=kind, support=support, tail=tail, k=k, dtype=dtype, value=tolerance, gradient=tolerance)


@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl"])
def test_tails_that_the_other_side_uses_up_stay_finite(kind):
    """Rounding leaves nothing of the teacher's rest when the student names almost all of it."""
    teacher, student = torch.full((1, 300), -30.0), torch.full((1, 300), -30.0)
    teacher[0, :10], teacher[0, 10:20] = 5.0, 1.0
    student[0, 10:20] = 5.0
    weight = torch.eye(300)
    target, settings = torch.tensor([0]), {"k": 10, "kind": kind}
    exact_record = teacher_topk(teacher.double(), weight.double(), k=10)
    exact = dense_token_stats(student.double(), weight.double(), target, teacher=exact_record, **settings)
    got = token_stats(student, weight, target, teacher=teacher_topk(teacher, weight, k=10), **settings)
    torch.testing.assert_close(got.divergence.double(), exact.divergence, rtol=1e-5, atol=1e-5)


def test_no_compared_row_and_no_row_at_all():
    case = Case()
    hidden, weight = case.hidden.requires_grad_(), case.weight.requires_grad_()
    stats = token_stats(hidden, weight, case.targets)
    assert [stats.divergence.shape, stats.overlap.shape] == [(0,), (0,)]
    (stats.log_prob.sum() + stats.divergence.sum()).backward()
    expected = torch.autograd.grad(dense_token_stats(hidden, weight, case.targets).log_prob.sum(), hidden)[0]
    torch.testing.assert_close(hidden.grad, expected)
    empty = token_stats(hidden[:0], weight, case.targets[:0], teacher=teacher_topk(hidden[:0], weight))
    assert empty.log_prob.shape == empty.divergence.shape == (0,)
    (gradient,) = torch.autograd.grad(empty.log_prob.sum() + empty.divergence.sum(), weight)
    assert (gradient == 0).all()
