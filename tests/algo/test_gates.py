"""Weights of tokens, and the gate over steps."""

import math

import pytest
import torch

from ptdpo.algo.gates import EntropyFloor, FloorSettings, GatedTokens, TokenGate, positions

NATS = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64, requires_grad=True)


def test_without_a_gate_all_weights_are_one():
    assert TokenGate().weights(GatedTokens()) is None


@pytest.mark.parametrize("side", ["teacher_entropy", "student_entropy"])
@pytest.mark.parametrize("sharpness", [1.0, -0.5, 0.0])
def test_a_surer_side_weighs_more_and_a_negative_sharpness_turns_it_round(side, sharpness):
    weights = TokenGate(side, sharpness).weights(GatedTokens(**{side: NATS}))
    assert weights.tolist() == pytest.approx([math.exp(-sharpness * nats) for nats in (0.0, 1.0, 3.0)], abs=1e-15)
    assert not weights.requires_grad


def test_each_side_reads_its_own_entropy():
    tokens = GatedTokens(teacher_entropy=NATS, student_entropy=NATS + 1)
    both = [TokenGate(side).weights(tokens) for side in ("teacher_entropy", "student_entropy")]
    torch.testing.assert_close(both[0] / math.e, both[1])


@pytest.mark.parametrize("above", [0.0, -1.0, 0.5])
def test_tokens_above_the_threshold_are_left_out_or_turned_round(above):
    weights = TokenGate("student_entropy", 0.0, threshold=1.0, above=above).weights(GatedTokens(student_entropy=NATS))
    assert weights.tolist() == [1.0, 1.0, above], "at the threshold a token is not above it"


def test_agreement_is_the_sigmoid_of_the_log_ratio():
    ratio = torch.tensor([0.0, 0.3, -0.3, 80.0], dtype=torch.float64)
    weights = TokenGate("agreement", 5.0).weights(GatedTokens(log_ratio=ratio))
    assert weights.tolist() == pytest.approx([1 / (1 + math.exp(-5 * u)) for u in ratio.tolist()], abs=1e-15)
    turned = TokenGate("agreement", -5.0).weights(GatedTokens(log_ratio=ratio))
    torch.testing.assert_close(weights + turned, torch.ones(4, dtype=torch.float64))


def test_positions_count_what_the_mask_holds():
    """A tool's answer in the middle, padding at the end, a response without any token."""
    mask = torch.tensor([[1, 1, 0, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
    own = positions(mask)
    assert own[0][mask[0]].tolist() == [0.0, 0.25, 0.5, 0.75]
    assert own[1][mask[1]].tolist() == [0.0, 0.5]
    assert own.isfinite().all()
    weights = TokenGate("position", 2.0).weights(GatedTokens(position=own[0][mask[0]]))
    assert weights.tolist() == pytest.approx([1.0, math.exp(-0.5), math.exp(-1.0), math.exp(-1.5)])


def test_the_floor_warms_up_then_closes_below_and_opens_above():
    floor = EntropyFloor(FloorSettings(close=0.9, reopen=1.1, warm_up=2))
    # H_0 = 2: closed below 1.8, open again from 2.2 on.
    steps = {1.0: False, 3.0: False, 2.0: True, 1.8: True, 1.79: False, 2.19: False, 2.2: True, 1.9: True}
    assert {entropy: floor.step(entropy) for entropy in steps} == steps
    assert floor.first == [1.0, 3.0]
