"""With tutoring off, PTDTrainer is TRL's GRPOTrainer, bit for bit."""

import pytest
import torch
from trl import GRPOConfig, GRPOTrainer

from ptdpo.rewards import accuracy_reward, format_reward
from ptdpo.train import PTDConfig, PTDTrainer
from tests.train.helpers import largest_difference, length_reward, parameters, small_settings


@pytest.mark.parametrize("loss_type", ["grpo", "dapo"])
def test_lambda_zero_is_trl_grpo(tmp_path, tiny_path, processor, train_rows, loss_type):
    shared = {
        **small_settings(max_steps=3, learning_rate=1e-2),
        "loss_type": loss_type,
        "reward_weights": [0.9, 0.1, 1.0],
    }
    rewards = [accuracy_reward, format_reward, length_reward]
    ours = PTDTrainer(
        tiny_path,
        list(rewards),
        PTDConfig(output_dir=str(tmp_path / "ours"), tutoring_weight=0.0, **shared),
        train_dataset=train_rows,
        processing_class=processor,
    )
    theirs = GRPOTrainer(
        tiny_path,
        list(rewards),
        GRPOConfig(
            output_dir=str(tmp_path / "theirs"),
            beta=0.01,
            weight_decay=0.01,
            lr_scheduler_type="constant",
            logging_steps=1,
            use_bias_correction_kl=False,
            generation_kwargs={"suppress_tokens": ours.generation_config.suppress_tokens},
            **shared,
        ),
        train_dataset=train_rows,
        processing_class=processor,
    )
    start = parameters(theirs)
    # Both constructors seed the global stream: train one after the other from the same state.
    state = torch.get_rng_state()
    ours.train()
    torch.set_rng_state(state)
    theirs.train()
    mine, trl = parameters(ours), parameters(theirs)
    assert all(torch.equal(mine[name], trl[name]) for name in trl)
    assert largest_difference(start, trl) > 1e-3, "the run must have trained"
