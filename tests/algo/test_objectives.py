import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptdpo.algo.objectives import (
    EPSILON,
    evidence_weights,
    log_mean,
    mean_over_responses,
    perception,
    ratio_weights,
    sampled_distillation,
    scheduled,
    shifted,
    shifts,
    standardised,
    tutoring_loss,
)


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


gaps = st.lists(st.tuples(st.floats(-4, 0), st.floats(-4, 0)), min_size=1, max_size=6)


@given(gaps)
def test_perception_is_k3_of_the_printed_ratio_or_of_its_inverse(pairs):
    own, masked = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    own.requires_grad_()
    for estimator, sign in (("paper", 1), ("code", -1)):
        value = perception(own, masked, estimator=estimator)
        ratios = [math.exp(sign * (p - m)) for p, m in pairs]
        naive = [r - math.log(r) - 1 for r in ratios]
        if estimator == "code":
            naive = [min(n, 10.0) for n in naive]
        assert value.tolist() == pytest.approx(naive, abs=1e-9)
        assert (value >= 0).all()
        (gradient,) = torch.autograd.grad(value.sum(), own)
        cut = [estimator == "code" and n >= 10 for n in naive]
        expected = [0.0 if c else sign * (r - 1) for r, c in zip(ratios, cut, strict=True)]
        assert gradient.tolist() == pytest.approx(expected, abs=1e-9)


def test_the_code_s_perception_is_cut_off_at_ten_and_the_paper_s_is_not():
    own, masked = torch.tensor([-9.0, 0.0]), torch.tensor([0.0, -9.0])
    assert perception(own, masked, estimator="code").tolist() == pytest.approx([10.0, math.exp(-9) + 8])
    assert perception(own, masked)[1].item() == pytest.approx(math.exp(9) - 10, rel=1e-5)
    with pytest.raises(ValueError, match="paper, code"):
        perception(own, masked, estimator="guess")


def test_sampled_distillation_is_minus_the_advantage_and_its_gradient():
    own = torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([-0.5, -3.0, -0.5], dtype=torch.float64, requires_grad=True)
    value = sampled_distillation(own, teacher)
    assert value.tolist() == [-0.5, 1.0, 0.0]
    value.sum().backward()
    assert own.grad.tolist() == [-0.5, 1.0, 0.0]
    assert teacher.grad is None
    kept = sampled_distillation(own.detach().requires_grad_(), teacher, most=0.75)
    assert kept.tolist() == [-0.5, 0.75, 0.0]


def test_the_gradient_of_sampled_distillation_is_that_of_the_reverse_kl():
    """In expectation over the student's own samples."""
    logits = torch.tensor([0.3, -1.0, 0.7], dtype=torch.float64, requires_grad=True)
    log_q = torch.tensor([0.1, 0.4, -0.2], dtype=torch.float64).log_softmax(0)
    log_p = logits.log_softmax(0)
    (log_p.exp().detach() * sampled_distillation(log_p, log_q)).sum().backward()
    mine, logits.grad = logits.grad.clone(), None
    log_p = logits.log_softmax(0)
    (log_p.exp() * (log_p - log_q)).sum().backward()
    torch.testing.assert_close(mine, logits.grad)


def test_evidence_weights_are_rlsd_s():
    """Right responses owe more to what the teacher expects, failed ones to what it does not; the sign stays."""
    log_ratio = torch.tensor([0.1, 0.1, -0.1, -0.1, 5.0, -5.0, 3.0], dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([2.0, -2.0, 2.0, -2.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    factors = evidence_weights(log_ratio, advantages, weight=0.5, clip=0.2)
    up, down = 0.5 + 0.5 * math.exp(0.1), 0.5 + 0.5 * math.exp(-0.1)
    assert factors.tolist() == pytest.approx([up, down, down, up, 1.1, 0.9, 1.0], abs=1e-15)
    assert not factors.requires_grad
    most = evidence_weights(torch.tensor([-9.0, 9.0]), torch.tensor([1.0, -1.0]), weight=1.0, clip=1.0)
    assert (most >= 0).all(), "at the limits of both settings no advantage changes its sign"


def test_a_negative_weight_turns_the_evidence_round():
    log_ratio, advantages = torch.tensor([0.1, 0.1, -0.1]), torch.tensor([1.0, -1.0, 1.0])
    turned = evidence_weights(log_ratio, advantages, weight=-0.5, clip=0.9)
    torch.testing.assert_close(turned, evidence_weights(-log_ratio, advantages, weight=0.5, clip=0.9))


def test_the_log_of_a_mean_is_no_mean_of_logs():
    probabilities = torch.tensor([[0.5, 0.1], [0.1, 0.3], [0.3, 0.2]], dtype=torch.float64)
    assert log_mean(probabilities.log()).exp().tolist() == pytest.approx([0.3, 0.2])
    assert log_mean(torch.full((4, 1), -900.0)).item() == -900.0


def test_shifts_are_bounded_and_small_ones_left_out():
    evidence = torch.tensor([9.0, -9.0, 0.02, 0.0008, 0.0], dtype=torch.float64, requires_grad=True)
    moved = shifts(evidence, weight=0.5, scale=0.02, least=0.02)
    assert moved.tolist() == pytest.approx([0.5, -0.5, 0.5 * math.tanh(1.0), 0.0, 0.0])
    assert not moved.requires_grad
    assert shifts(evidence, weight=-0.5, scale=0.02, least=0.02).tolist() == (-moved).tolist()


def test_a_shifted_advantage_stays_on_its_side_of_zero():
    """RLCSD: the verdict decides in which direction a response moves."""
    advantages, moved = torch.tensor([1.0, 0.3, -1.0, -0.3, 0.0]), torch.tensor([-0.5, -0.5, 0.5, 0.5, 0.5])
    assert shifted(advantages, moved).tolist() == [0.5, 0.0, -0.5, 0.0, 0.0]
    assert shifted(advantages, -moved).tolist() == pytest.approx([1.5, 0.8, -1.5, -0.8, 0.0])


def test_the_gradient_of_the_bounded_advantage_is_that_of_jsd():
    """In expectation over the student's own samples; A is at least -log(2) / 2."""
    logits = torch.tensor([0.3, -1.0, 0.7, 2.0], dtype=torch.float64, requires_grad=True)
    log_q = torch.tensor([0.1, 0.4, -0.2, -3.0], dtype=torch.float64).log_softmax(0)
    log_p = logits.log_softmax(0)
    apart = sampled_distillation(log_p, log_q, "jsd")
    assert (apart <= math.log(2) / 2).all()
    (log_p.exp().detach() * apart).sum().backward()
    mine, logits.grad = logits.grad.clone(), None
    p, q = logits.softmax(0), log_q.exp()
    m = (p + q) / 2
    (0.5 * (q * (q / m).log()).sum() + 0.5 * (p * (p / m).log()).sum()).backward()
    torch.testing.assert_close(mine, logits.grad)
    with pytest.raises(ValueError, match="log_ratio, jsd"):
        sampled_distillation(log_p, log_q, "kl")


def test_standardised_has_mean_zero_and_deviation_one_in_each_response():
    values = torch.tensor([[1.0, 2.0, 6.0, 9.0], [5.0, 9.0, 0.0, 0.0], [4.0, 4.0, 4.0, 0.0]], dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 0]], dtype=torch.bool)
    found = standardised(values, mask)
    deviation = math.sqrt((4 + 1 + 9) / 3)
    assert found[0].tolist() == pytest.approx([-2 / deviation, -1 / deviation, 3 / deviation, 0.0])
    assert not found[1:].any(), "a single token, or several alike, have no deviation"


def test_mean_over_responses_weighs_responses_alike():
    values = torch.tensor([[1.0, 3.0, 99.0], [4.0, 99.0, 99.0], [99.0, 99.0, 99.0]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert mean_over_responses(values, mask).item() == pytest.approx((2.0 + 4.0 + 0.0) / 3)


def test_schedules_end_at_zero():
    assert [scheduled(0.5, "constant", p) for p in (0.0, 0.4, 1.0)] == [0.5, 0.5, 0.5]
    assert [scheduled(0.5, "linear", p) for p in (0.0, 0.4, 1.0, 1.5)] == pytest.approx([0.5, 0.3, 0.0, 0.0])
    assert [scheduled(0.5, "cosine", p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.5, 0.25, 0.0])
    with pytest.raises(ValueError, match="constant, linear, cosine"):
        scheduled(0.5, "sudden", 0.0)
