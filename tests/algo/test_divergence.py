"""Values and gradients against the naive float64 reference, edge cases, and properties."""

import itertools
import math
from inspect import unwrap  # the plain function, as users call it: without the test suite's shape checks

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptdpo.algo.divergence import full_divergence, topk_agreement, topk_divergence
from tests.algo.head_case import KIND_TAILS, KINDS, SUPPORTS
from tests.reference import divergence as naive

LN2 = math.log(2.0)


def value_and_gradient(student, teacher, **settings):
    student = student.clone().requires_grad_()
    value = topk_divergence(student, teacher, **settings)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    return value.detach(), gradient


def rows(*shape, scale=2.0, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=dtype)


@pytest.mark.parametrize(("kind", "tail"), KIND_TAILS)
@pytest.mark.parametrize("support", SUPPORTS)
@pytest.mark.parametrize(("vocabulary", "k"), [(7, 1), (13, 3), (5, 4), (11, 6)])
def test_value_and_gradient_match_the_naive_reference(kind, support, tail, vocabulary, k):
    student, teacher = rows(3, vocabulary), rows(3, vocabulary, seed=1)
    settings = {"kind": kind, "support": support, "tail": tail}
    value, gradient = value_and_gradient(student, teacher, k=k, **settings)
    for row in range(3):
        s, t = student[row].tolist(), teacher[row].tolist()
        assert value[row].item() == pytest.approx(naive.topk(s, t, k, **settings), abs=1e-12)
        expected = naive.topk_gradient(s, t, k, **settings)
        assert gradient[row].tolist() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("k", [1, 3, 8, 20])
def test_gradient_of_the_jsd_is_the_closed_form(k):
    student, teacher = rows(4, 20), rows(4, 20, seed=1)
    _, gradient = value_and_gradient(student, teacher, k=k)
    for row in range(4):
        expected = naive.jsd_closed_form_gradient(student[row].tolist(), teacher[row].tolist(), k)
        assert gradient[row].tolist() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_is_computed_in_float32(dtype):
    student, teacher = rows(6, 50).to(dtype), rows(6, 50, seed=1).to(dtype)
    value, gradient = value_and_gradient(student, teacher, k=5)
    exact, exact_gradient = value_and_gradient(student.double(), teacher.double(), k=5)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=1e-6)
    tolerance = 1e-6 if dtype == torch.float32 else 5e-3
    error = (gradient.double() - exact_gradient).norm() / exact_gradient.norm()
    assert error < tolerance


@pytest.mark.parametrize("shape", [(9,), (1, 9), (2, 1, 9), (0, 9), (2, 3, 4, 9)])
def test_any_leading_shape(shape):
    student, teacher = rows(*shape), rows(*shape, seed=1)
    value = topk_divergence(student, teacher, k=2)
    assert value.shape == shape[:-1]
    flat = topk_divergence(student.reshape(-1, 9), teacher.reshape(-1, 9), k=2)
    torch.testing.assert_close(value.flatten(), flat)


def test_what_the_student_puts_outside_a_renormalised_teacher_costs_half_ln_2():
    """HDPO's convention here: the exact JSD to the truncated teacher."""
    teacher = torch.tensor([[50.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    student = torch.zeros(1, 4, dtype=torch.float64)
    value = topk_divergence(student, teacher, k=1, support="teacher", tail="student")
    inside = 0.5 * (0.25 * math.log(0.25 / 0.625) + math.log(1 / 0.625))
    assert value.item() == pytest.approx(inside + 0.75 * LN2 / 2)
    with pytest.raises(ValueError, match="infinite"):
        topk_divergence(student, teacher, kind="reverse_kl", tail="student")


@pytest.mark.parametrize("kind", KINDS)
def test_k_of_the_vocabulary_or_more_is_the_full_divergence(kind):
    student, teacher = rows(4, 6), rows(4, 6, seed=1)
    full = full_divergence(student, teacher, kind=kind)
    for k in (6, 7, 100):
        torch.testing.assert_close(topk_divergence(student, teacher, k=k, kind=kind), full)
        _, gradient = value_and_gradient(student, teacher, k=k, kind=kind)
        assert torch.isfinite(gradient).all()
    for row in range(4):
        expected = naive.full(student[row].tolist(), teacher[row].tolist(), kind)
        assert full[row].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identical_distributions_give_exactly_zero_and_no_gradient(kind, dtype):
    logits = rows(5, 30, dtype=dtype)
    for k in (1, 4, 30):
        value, gradient = value_and_gradient(logits, logits, k=k, kind=kind)
        assert (value == 0).all()
        bound = 0.0 if kind == "jsd" else 10 * torch.finfo(dtype).eps
        assert gradient.abs().max() <= bound


def test_both_sides_naming_the_same_ids_count_them_once():
    student = torch.tensor([[3.0, 2.0, 0.0, -1.0]])
    teacher = torch.tensor([[2.0, 3.0, 0.0, -1.0]])
    value = topk_divergence(student, teacher, k=2)
    assert value.item() == pytest.approx(naive.topk(student[0].tolist(), teacher[0].tolist(), 2), abs=1e-7)
    agreement = topk_agreement(student, teacher, k=2)
    assert agreement.overlap.item() == 1.0
    assert agreement.student_tail.item() == pytest.approx(student.softmax(-1)[0, 2:].sum().item(), rel=1e-6)
    assert agreement.teacher_tail.item() == pytest.approx(teacher.softmax(-1)[0, 2:].sum().item(), rel=1e-6)


def test_disjoint_distributions_reach_ln_2():
    inf = float("inf")
    student = torch.tensor([[1.0, 2.0, -inf, -inf]])
    teacher = torch.tensor([[-inf, -inf, 0.5, 1.0]])
    for k in (2, 4):
        value, gradient = value_and_gradient(student, teacher, k=k)
        assert value.item() == pytest.approx(LN2, abs=1e-6)
        assert torch.isfinite(gradient).all()


def test_impossible_tokens_are_inert():
    inf = float("inf")
    student = torch.tensor([[1.0, 2.0, -1.0, -inf, -inf]], dtype=torch.float64)
    teacher = torch.tensor([[2.0, 1.0, -2.0, -inf, -inf]], dtype=torch.float64)
    for kind, k in itertools.product(KINDS, (1, 2, 3, 5)):
        value, gradient = value_and_gradient(student, teacher, k=k, kind=kind)
        short, short_gradient = value_and_gradient(student[:, :3], teacher[:, :3], k=k, kind=kind)
        torch.testing.assert_close(value, short)
        torch.testing.assert_close(gradient[:, :3], short_gradient)
        assert (gradient[:, 3:] == 0).all()


def test_one_sided_impossible_token_makes_kl_infinite_and_jsd_finite():
    student = torch.tensor([[0.0, -float("inf")]])
    teacher = torch.tensor([[0.0, 0.0]])
    assert full_divergence(student, teacher, kind="forward_kl").item() == math.inf
    assert full_divergence(teacher, student, kind="reverse_kl").item() == math.inf
    assert full_divergence(student, teacher, kind="reverse_kl").item() == pytest.approx(LN2)
    assert 0 < full_divergence(student, teacher).item() < LN2


@pytest.mark.parametrize("kind", KINDS)
def test_very_peaked_logits_and_a_tail_that_underflows(kind):
    student = torch.full((2, 40), -200.0)
    teacher = torch.full((2, 40), -200.0)
    student[0, 0], teacher[0, 0] = 100.0, 100.0
    student[1, 0], teacher[1, 1] = 60.0, 60.0
    value, gradient = value_and_gradient(student, teacher, k=2, kind=kind)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()
    assert value[0] == 0
    if kind == "jsd":
        assert value[1].item() == pytest.approx(LN2, abs=1e-6)


def test_peaked_rows_keep_their_relative_accuracy():
    student, teacher = 12 * rows(20, 100), 12 * rows(20, 100, seed=1)
    teacher = 0.9 * student + 0.1 * teacher
    value, gradient = value_and_gradient(student.float(), teacher.float(), k=10)
    exact, exact_gradient = value_and_gradient(student.float().double(), teacher.float().double(), k=10)
    torch.testing.assert_close(value.double(), exact, rtol=3e-5, atol=3e-7)
    assert (gradient.double() - exact_gradient).norm() / exact_gradient.norm() < 1e-5


def test_temperature_is_a_division_of_both_logits():
    student, teacher = rows(3, 9), rows(3, 9, seed=1)
    value = topk_divergence(student / 0.7, teacher / 0.7, k=3)
    for row in range(3):
        s, t = (student[row] / 0.7).tolist(), (teacher[row] / 0.7).tolist()
        assert value[row].item() == pytest.approx(naive.topk(s, t, 3), abs=1e-12)
    assert not torch.allclose(value, topk_divergence(student, teacher, k=3))


def test_the_teacher_receives_no_gradient():
    student, teacher = rows(3, 9).requires_grad_(), rows(3, 9, seed=1).requires_grad_()
    (topk_divergence(student, teacher, k=3) + full_divergence(student, teacher)).sum().backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


def test_a_gradient_step_reduces_the_divergence():
    """The released reference code has a zero gradient here."""
    student, teacher = rows(8, 30), rows(8, 30, seed=1)
    before, gradient = value_and_gradient(student, teacher, k=10)
    after = topk_divergence(student - 0.1 * gradient, teacher, k=10)
    assert (after < before).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "at least 1"),
        ({"kind": "js"}, "jsd"),
        ({"support": "both"}, "union"),
        ({"tail": "drop"}, "bucket"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        unwrap(topk_divergence)(rows(2, 5), rows(2, 5), **settings)


def test_another_vocabulary_is_refused():
    with pytest.raises(ValueError, match="vocabulary"):
        unwrap(topk_divergence)(rows(2, 5), rows(2, 6))


def test_agreement_refuses_k_below_one():
    with pytest.raises(ValueError, match="at least 1"):
        topk_agreement(rows(2, 5), rows(2, 5), k=0)


logits = st.lists(st.floats(-15, 15, width=32), min_size=2, max_size=12, unique=True)
pairs = logits.flatmap(
    lambda first: st.tuples(
        st.just(first),
        st.lists(st.floats(-15, 15, width=32), min_size=len(first), max_size=len(first), unique=True),
    )
)


@given(pairs, st.integers(1, 13))
def test_jsd_is_symmetric_and_bounded(pair, k):
    student, teacher = (torch.tensor([row], dtype=torch.float32) for row in pair)
    there, back = topk_divergence(student, teacher, k=k), topk_divergence(teacher, student, k=k)
    torch.testing.assert_close(there, back, rtol=1e-5, atol=1e-8)
    assert 0 <= there.item() <= LN2 + 1e-6


@given(pairs, st.sampled_from(KINDS))
def test_topk_grows_with_k_up_to_the_full_divergence(pair, kind):
    student, teacher = (torch.tensor([row], dtype=torch.float64) for row in pair)
    values = [topk_divergence(student, teacher, k=k, kind=kind).item() for k in range(1, student.size(1) + 1)]
    full = full_divergence(student, teacher, kind=kind).item()
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(values))
    assert values[-1] == pytest.approx(full, abs=1e-12)


@given(pairs, st.integers(1, 13))
def test_there_is_a_gradient_wherever_the_compressed_distributions_differ(pair, k):
    student, teacher = (torch.tensor([row], dtype=torch.float64) for row in pair)
    value, gradient = value_and_gradient(student, teacher, k=k)
    if value.item() > 1e-9:
        assert gradient.abs().max() > 0
    assert gradient.sum().abs() < 1e-9, "adding a constant to all logits changes nothing"


@pytest.mark.parametrize("kind", KINDS)
def test_clipping_bounds_what_one_id_contributes(kind):
    student, teacher = rows(6, 20), rows(6, 20, seed=1)
    pairs = list(zip(student.tolist(), teacher.tolist(), strict=True))
    for clip in (0.01, 99.0):
        expected = [naive.full(p, q, kind, clip) for p, q in pairs]
        assert full_divergence(student, teacher, kind=kind, clip=clip).tolist() == pytest.approx(expected, abs=1e-12)
    assert (
        full_divergence(student, teacher, kind=kind, clip=0.01) < full_divergence(student, teacher, kind=kind)
    ).all()
    with pytest.raises(ValueError, match="clip must be positive"):
        unwrap(full_divergence)(student, teacher, clip=0.0)
