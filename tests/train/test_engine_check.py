import math
import warnings
from types import SimpleNamespace

import pytest
import torch

from ptdpo.train.trl.engine_check import (
    EngineCheck,
    agreement,
    check_agreement,
    mean_ratio,
    unlogged,
    warn_of_shrinking,
)

SCORED = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, -2.0, 0.0]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])
IDS = torch.tensor([[4, 5, 6], [7, 8, 0]])


def compared(sampled, when="at the start", limit=0.02, **settings):
    return check_agreement(sampled, SCORED, MASK, IDS, limit=limit, when=when, token=str, ids=["x", "y"], **settings)


def test_agreement_counts_response_tokens_that_the_engine_could_score():
    sampled = SCORED + torch.tensor([[0.1, -0.3, math.nan], [0.2, 0.0, 9.0]])
    found = agreement(sampled, SCORED, MASK)
    assert found.mean == pytest.approx(0.15)
    assert found.largest == pytest.approx(0.3)
    assert found.tokens == 4


def test_what_agrees_passes():
    assert compared(SCORED + 0.01).mean == pytest.approx(0.01)


def test_a_prompt_read_otherwise_is_refused_with_its_tokens():
    with pytest.raises(ValueError, match=r"at the start .* 0\.5000 nats") as caught:
        compared(SCORED - 0.5, has_images=True)
    assert "images are expanded twice" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2 + 6
    assert "y" in str(caught.value)


def test_tokens_that_are_only_more_probable_to_the_engine_are_a_distribution_that_leaves_some_out():
    sampled = SCORED.clone()
    sampled[0, 1] += 1.0
    with pytest.raises(ValueError, match=r"leaves tokens out .*ban_special_tokens, top_p.*raise engine_check_nats"):
        compared(sampled)
    with pytest.raises(ValueError, match=r"leaves tokens out"):
        compared(SCORED + 0.1, has_images=True)


def test_few_tokens_that_differ_either_way():
    sampled = SCORED.clone()
    sampled[0, 1] += 1.0
    sampled[1, 0] -= 1.0
    with pytest.raises(ValueError, match=r"Few tokens differ"):
        compared(sampled)


def test_what_agreed_before_the_update_is_the_updates_fault():
    with pytest.raises(ValueError, match="images encoded with the old weights"):
        compared(SCORED + 0.1, "after the first update", has_images=True)
    with pytest.raises(ValueError, match="weights that did not arrive"):
        compared(SCORED + 0.1, "after the first update")


def columns(shift):
    return {
        "sampling_per_token_logps": SCORED + shift,
        "old_per_token_logps": SCORED,
        "completion_mask": MASK,
        "completion_ids": IDS,
    }


def test_the_first_rows_are_repeated_once_after_the_first_update():
    check = EngineCheck(0.02, None, str)
    assert check.rows_to_repeat(3, ["a", "b", "c"], 2) == []
    assert check.at_the_start
    assert check.rows_to_repeat(3, ["d"], 2) == []
    assert check.rows_to_repeat(4, ["e"], 2) == ["a", "b"]
    assert not check.at_the_start
    assert check.rows_to_repeat(5, ["f"], 2) == []


def test_later_disagreement_is_one_warning():
    check = EngineCheck(0.02, None, str)
    with pytest.warns(UserWarning, match="disagree by 0.1000"):
        check([], columns(0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check([], columns(0.1))
    with pytest.raises(ValueError, match="at the start"):
        check([], columns(0.1), "at the start")


def test_nothing_is_compared_without_a_limit_or_without_what_the_engine_says():
    EngineCheck(None, None, str)([], columns(5.0), "at the start")
    EngineCheck(0.02, None, str)([], {"completion_mask": MASK}, "at the start")


def test_ratios_of_whole_responses_shrink_with_their_length():
    sampled = SCORED + 0.003
    assert mean_ratio(sampled, SCORED, MASK, by_sequence=False) == pytest.approx(math.exp(-0.003), rel=1e-5)
    expected = (math.exp(-0.009) + math.exp(-0.006)) / 2
    assert mean_ratio(sampled, SCORED, MASK, by_sequence=True) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("ratio", "mode", "warned"), [
    (0.26, "sequence_mask", True), (0.95, "sequence_mask", False), (0.26, "token_truncate", False),
])  # fmt: skip
def test_a_correction_that_shrinks_the_update_is_warned_of(ratio, mode, warned):
    assert bool(warn_of_shrinking(ratio, mode)) is warned
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        EngineCheck(9.0, mode, str)([], columns(-math.log(ratio) / 2.5))
    assert bool(caught) is warned


def test_a_generation_of_the_check_leaves_no_trace_and_is_short():
    trainer = SimpleNamespace(
        _logs={"prompt": ["a"], "rewards": {"r": [1.0]}},
        _metrics={"train": {"entropy": [1.0]}},
        vllm_generation=SimpleNamespace(max_completion_length=512),
        state=SimpleNamespace(num_input_tokens_seen=7),
    )
    with unlogged(trainer, 64):
        assert trainer.vllm_generation.max_completion_length == 64
        trainer._logs["prompt"].append("b")
        trainer._metrics["train"]["entropy"].append(2.0)
        trainer._metrics["train"]["length"] = [3.0]
        trainer.state.num_input_tokens_seen = 99
    assert trainer._logs["prompt"] == ["a"]
    assert trainer._metrics["train"] == {"entropy": [1.0], "length": []}
    assert trainer.vllm_generation.max_completion_length == 512
    assert trainer.state.num_input_tokens_seen == 7
