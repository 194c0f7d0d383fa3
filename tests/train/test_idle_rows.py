"""Rows from which nothing is learnt are left out of the update: the same gradient, in float64, for every preset.

Models' norms compute in float32 even then, which is why gradients differ in the eighth digit.
"""

import pytest
import torch

from ptdpo.data.dataset import rl_dataset
from ptdpo.models import load_model
from ptdpo.presets import PRESETS, SFT, preset_settings
from ptdpo.train import PTDConfig
from ptdpo.train.engine import NOT_TUTORED, Kept, RolloutRecord
from ptdpo.train.trl.batches import RECORDS
from ptdpo.train.trl.idle_rows import MicroBatchParts, rows_to_read
from tests.one_process import OneProcess
from tests.train.helpers import SGD, always_right, largest_difference, make_trainer, metrics, parameters, with_views

# All right, some right, all right, all wrong.
GROUPS = ([1, 1, 1, 1], [0, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0])
SIZES = {
    **SGD, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "num_generations": 4,
    "model_init_kwargs": {"dtype": torch.float64}, "record_tokens": 0,
}  # fmt: skip
CHANGES = {
    "dapo": {"resampling_rounds": 0},
    "ptd-dapo": {"resampling_rounds": 0},
    "antisd": {"tutoring_entropy_warmup": 1},
    "scaf-grpo": {"hinted_after": 0, "hinted_rollouts": 2},
    "hdpo": {"leave_one_out": False},
}
WITH_KL = [name for name in PRESETS if name != SFT and preset_settings(name)["beta"] != 0]
WITHOUT = [name for name in PRESETS if name != SFT and preset_settings(name)["beta"] == 0]


@pytest.fixture(scope="module")
def expert(tiny_path, processor, tmp_path_factory):
    """Another model of the same vocabulary."""
    model, folder, draws = load_model(tiny_path), tmp_path_factory.mktemp("expert"), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draws))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def solved_rows(scenes):
    """Rows with hints and solutions."""
    hints = {scene.problem.id: scene.hint for scene in scenes}
    solutions = {scene.problem.id: scene.solution.response for scene in scenes}
    return rl_dataset(with_views([scene.problem for scene in scenes]), hints, instruction="", solutions=solutions)


def accuracy_reward(completions, **_):
    return [float(right) for right in [right for group in GROUPS for right in group][: len(completions)]]


def settings_of(preset, expert):
    changes = {**SIZES, **CHANGES.get(preset, {})}
    if preset in ("opd", "opd-sampled"):
        changes["tutoring_teacher"] = expert
    return changes


def trained(folder, model, processor, rows, preset, **changes):
    trainer = make_trainer(folder, model, processor, rows, reward=accuracy_reward, preset=preset, **changes)
    start = parameters(trainer)
    trainer.train()
    return trainer, start


@pytest.mark.parametrize("preset", WITHOUT)
def test_the_gradient_is_that_of_all_rows(tmp_path, tiny_path, expert, processor, solved_rows, preset):
    changes = settings_of(preset, expert)
    whole, start = trained(tmp_path / "whole", tiny_path, processor, solved_rows, preset, **changes)
    less, _ = trained(tmp_path / "less", tiny_path, processor, solved_rows, preset, **changes, skip_idle_rows=True)
    moved = largest_difference(start, parameters(whole))
    assert largest_difference(parameters(whole), parameters(less)) <= 1e-7 * moved
    idle = [entry["rows/idle"] for entry in metrics(less) if "rows/idle" in entry]
    assert len(idle) == 1
    all_are_read = preset_settings(preset).get("tutoring_select") in ("every", "all")
    assert (min(idle) > 0) != all_are_read
    assert moved > 1e-7
    for own, other in zip(metrics(whole), metrics(less), strict=True):
        for name in ("loss", "grad_norm", "accuracy", "reward", "divergence", "tutored/rollouts"):
            assert own.get(name, 0.0) == pytest.approx(other.get(name, 0.0), rel=1e-6, abs=1e-12), name
    assert "rows/idle" not in metrics(whole)[0]


@pytest.mark.parametrize("preset", ["dapo", "gspo", "ptd-gspo"])
def test_in_parts_of_a_budget_too(tmp_path, tiny_path, processor, train_rows, preset):
    changes = {**settings_of(preset, tiny_path), "micro_batch_tokens": 1, "share_prefix": True}
    whole, start = trained(tmp_path / "whole", tiny_path, processor, train_rows, preset, **changes)
    less, _ = trained(tmp_path / "less", tiny_path, processor, train_rows, preset, **changes, skip_idle_rows=True)
    assert largest_difference(parameters(whole), parameters(less)) <= 1e-7 * largest_difference(
        start, parameters(whole)
    )


def test_nothing_is_learnt_where_every_row_is_idle(tmp_path, tiny_path, processor, train_rows):
    changes = {**SIZES, "preset": "gspo", "skip_idle_rows": True}
    trainer = make_trainer(tmp_path, tiny_path, processor, train_rows, reward=always_right, **changes)
    start = parameters(trainer)
    trainer.train()
    assert largest_difference(start, parameters(trainer)) == 0
    assert [entry["rows/idle"] for entry in metrics(trainer) if "rows/idle" in entry] == [1.0]


def read(columns, *, by_rows=True, budget=None):
    logged = {}
    parts = MicroBatchParts(budget, True, by_rows, OneProcess()).of(columns, logged.__setitem__)
    return parts, logged["rows/idle"]


def columns(*advantages, **more):
    masks = [[1] * (3 + n) + [0] * (4 - n) for n in range(len(advantages))]
    return {
        "advantages": torch.tensor(advantages), "completion_mask": torch.tensor(masks),
        "completion_ids": torch.arange(7 * len(advantages)).view(-1, 7), "num_items_in_batch": torch.tensor(9.0),
        **more,
    }  # fmt: skip


def test_shares_are_those_of_the_whole_micro_batch():
    ((part, share),), idle = read(columns(0.0, 1.0, 0.0, -1.0))
    assert (share, idle) == (0.5, 0.5)
    assert part["completion_ids"][:, 0].tolist() == [7, 21]
    ((_, share),), _ = read(columns(0.0, 1.0, 0.0, -1.0), by_rows=False)
    assert share == 1.0


def test_a_process_with_nothing_to_learn_reads_its_shortest_row_for_nothing():
    ((part, share),), idle = read(columns(0.0, 0.0, 0.0))
    assert (share, idle) == (0.0, 1.0)
    assert part["completion_ids"][:, 0].tolist() == [0]
    assert read(columns(0.0, 0.0), by_rows=False)[0][0][1] == 0.0


def test_rows_that_a_teacher_read_or_that_are_kept_are_read():
    kept = RolloutRecord(0, NOT_TUTORED, kept=Kept(0, 1))
    assert rows_to_read(columns(0.0, 0.0, 1e-9, **{RECORDS: [RolloutRecord(0), kept, RolloutRecord(0)]})) == [1, 2]
    per_token = {**columns(0.0, 0.0), "advantages": torch.tensor([[0.0, 0.0], [0.0, 0.1]])}
    assert rows_to_read(per_token) == [1]


@pytest.mark.parametrize("preset", WITH_KL)
def test_a_reference_kl_refuses(tmp_path, preset):
    with pytest.raises(ValueError, match=r"skip_idle_rows=True: beta=0.01: every row has a reference KL"):
        PTDConfig.from_preset(preset, output_dir=str(tmp_path), use_cpu=True, bf16=False, skip_idle_rows=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"perception_weight": 0.1}, "perception terms look at every row"),
        ({"entropy_coef": 0.1}, "entropy_coef, use_adaptive_entropy"),
        ({"top_entropy_quantile": 0.5}, "entropy_coef, use_adaptive_entropy"),
        ({"loss_type": "bnpo"}, "loss_type='bnpo' is no sum over rows"),
    ],
)
def test_what_looks_at_every_row_refuses(tmp_path, settings, message):
    with pytest.raises(ValueError, match=f"skip_idle_rows=True: {message}"):
        PTDConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, beta=0.0, skip_idle_rows=True, **settings)


def test_dropout_and_experts_refuse(tmp_path, tiny_path, processor, train_rows):
    from peft import LoraConfig

    adapter = LoraConfig(r=2, lora_dropout=0.1, target_modules=["q_proj"])
    changes = {"preset": "gspo", "skip_idle_rows": True}
    with pytest.raises(ValueError, match=r"skip_idle_rows=True: the model has dropout \(.*lora_dropout"):
        make_trainer(tmp_path, tiny_path, processor, train_rows, peft_config=adapter, **changes)


def test_the_balance_of_experts_refuses(tiny_path):
    from ptdpo.train.trl.idle_rows import refuse_unequal_skipping

    model = load_model(tiny_path)
    skipping = type("Settings", (), {"skip_idle_rows": True})()
    with pytest.raises(ValueError, match="the load-balancing loss of experts looks at every row"):
        refuse_unequal_skipping(skipping, model, has_aux_loss=True)
    refuse_unequal_skipping(skipping, model, has_aux_loss=False)
    model.config.text_config.attention_dropout = 0.1
    with pytest.raises(ValueError, match=r"has dropout \(attention_dropout\)"):
        refuse_unequal_skipping(skipping, model, has_aux_loss=False)
