"""What of TRL and transformers is overridden or read: a change there fails here, with a message."""

import ast
import inspect
import textwrap

import pytest
from transformers import Trainer
from trl import GRPOTrainer

from ptdpo.train import PTDConfig, PTDTrainer
from ptdpo.train.trl.whole_checkpoints import WholeCheckpoints
from tests.train.helpers import (
    Alternating,
    small_settings,
)

OVERRIDDEN = {
    "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
    "_generate_and_score_completions": ["self", "inputs"],
    "_generate": ["self", "prompts"],
    "_get_per_token_logps_and_entropies": [
        "self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy",
        "compute_aux_loss", "pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask", "spatial_shapes",
        "num_tiles", "image_sizes", "token_type_ids", "mm_token_type_ids", "image_position_ids",
    ],
    "_load_optimizer_and_scheduler": ["self", "checkpoint"],
    "_log_metric": ["self", "name", "value"],
    "compute_loss": ["self", "model", "inputs", "return_outputs", "num_items_in_batch"],
    "_prepare_inputs": ["self", "generation_batch"],
    "_compute_loss": ["self", "model", "inputs"],
    "training_step": ["self", "model", "inputs", "num_items_in_batch"],
}  # fmt: skip
# Of transformers' Trainer, by WholeCheckpoints.
CHECKPOINTS = {
    "train": ["self", "resume_from_checkpoint", "trial", "ignore_keys_for_eval"],
    "_get_output_dir": ["self", "trial"],
    "_load_from_checkpoint": ["self", "resume_from_checkpoint", "model"],
    "_load_optimizer_and_scheduler": ["self", "checkpoint"],
    "_save_checkpoint": ["self", "model", "trial"],
    "_save": ["self", "output_dir", "state_dict"],
    "save_model": ["self", "output_dir", "_internal_call"],
    "_push_from_checkpoint": ["self", "checkpoint_folder"],
}


@pytest.mark.parametrize("name", sorted(OVERRIDDEN))
def test_trl_still_has_the_methods_that_are_overridden_or_called(name):
    """If this fails, TRL changed: adapt ptdpo.train.trainer before widening the pin."""
    assert list(inspect.signature(inspect.unwrap(getattr(GRPOTrainer, name))).parameters) == OVERRIDDEN[name]


@pytest.mark.parametrize("name", sorted(CHECKPOINTS))
def test_transformers_still_saves_through_the_methods_that_are_overridden(name):
    """If this fails, transformers changed: adapt ptdpo.train.trl.whole_checkpoints before widening the pin."""
    assert list(inspect.signature(inspect.unwrap(getattr(Trainer, name))).parameters) == CHECKPOINTS[name]


def test_trl_scores_through_a_model_call_that_can_be_stood_in_for():
    source = inspect.getsource(inspect.unwrap(GRPOTrainer._get_per_token_logps_and_entropies))
    assert "outputs = model(**model_inputs, labels=labels, fused_lm_head=True)" in source
    assert {"log_probs", "entropy"} <= set(source.replace("outputs.", " ").replace("[", " ").split())


def test_every_override_has_its_signature_checked():
    own = {name for name, value in vars(PTDTrainer).items() if inspect.isfunction(value)}
    overrides = {name for name in own if hasattr(GRPOTrainer, name)} - {"__init__"}
    assert overrides | {"_log_metric"} == OVERRIDDEN.keys()
    saving = {name for name, value in vars(WholeCheckpoints).items() if inspect.isfunction(value)}
    assert {name for name in saving if hasattr(Trainer, name)} - {"__init__"} <= CHECKPOINTS.keys() | OVERRIDDEN.keys()


def test_trl_hands_its_model_to_the_scoring_and_to_nothing_else():
    """A ``ScoringModel`` takes its place in ``_compute_loss``."""
    source = inspect.getsource(inspect.unwrap(GRPOTrainer._compute_loss))
    (uses,) = (node for node in ast.walk(ast.parse(textwrap.dedent(source))) if isinstance(node, ast.FunctionDef)
               and node.name == "_compute_loss")  # fmt: skip
    assert sum(isinstance(node, ast.Name) and node.id == "model" for node in ast.walk(uses)) == 1
    assert "_get_per_token_logps_and_entropies(\n            model," in source


def test_trl_still_has_the_attributes_that_are_read(run):
    trainer = run(reward=Alternating(2))
    for name in (
        "_step",
        "_buffered_inputs",
        "_metrics",
        "_logs",
        "generation_kwargs",
        "eos_token_ids",
        "chat_template",
        "environment_factories",
        "_multi_environment",
    ):
        assert hasattr(trainer, name), name
    assert callable(trainer._tokenizer.batch_decode)
    assert isinstance(trainer._tokenizer.pad_token_id, int)
    assert isinstance(trainer, PTDTrainer)
    assert isinstance(PTDConfig(output_dir="x", **small_settings()), PTDConfig)
