"""Prompts prefilled once give the samples of the plain way."""

import copy
import inspect

import pytest
import torch
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3VLForConditionalGeneration,
)

from ptdpo.models import load_model
from ptdpo.models.shared_prefill import share_prefill
from tests.models.test_shared_prefix import CASES, NOISE, OTHER, WIDE, batch
from tests.processes import gloo_processes

ROWS = {
    "groups": [("red?", [NOISE])] * 3 + [("what is blue in the top row?", [OTHER])] * 3,
    "apart": [("red?", [NOISE]), ("red?", [OTHER]), ("red?", [NOISE])],
    "sizes": [("red?", [NOISE, WIDE])] * 2 + [("red?", [WIDE])] * 2,
    "text": [("red?", [])] * 2 + [("what is blue?", [])],
    "mixed": [("red?", [NOISE])] * 2 + [("red?", [])] * 2,
}


def prompts(processor, rows):
    """The inputs of generation, without the response column that ``batch`` appends."""
    inputs, mask = batch(processor, [(*row, "x") for row in rows])
    for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
        if name in inputs:
            inputs[name] = inputs[name][:, : -mask.size(1)]
    return inputs


def sampled(model, inputs, seed=0, **settings):
    """Return the samples, and the logits that they were drawn from."""
    torch.manual_seed(seed)
    config = GenerationConfig(max_new_tokens=8, do_sample=True, eos_token_id=1, pad_token_id=0, **settings)
    found = model.generate(**inputs, generation_config=config, return_dict_in_generate=True, output_logits=True)
    return found.sequences, torch.stack(found.logits)


def assert_same_samples(plain, shared, inputs, seeds=(0,), **settings):
    for seed in seeds:
        expected, logits = sampled(plain, inputs, seed, **settings)
        got, got_logits = sampled(shared, inputs, seed, **settings)
        assert torch.equal(got, expected)
        torch.testing.assert_close(got_logits, logits, rtol=0, atol=1e-4)


def forwarded(model):
    """Count the rows of the first forward of each generation."""
    rows = []
    model.base_model.language_model.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    return rows


def sharp(model):
    """Make a model whose next token depends on where it looks: a fresh one hardly cares about positions."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight")):
                parameter.mul_(8)
    return model.eval()


@pytest.fixture
def models(tiny_path):
    plain, shared = sharp(load_model(tiny_path)), sharp(load_model(tiny_path))
    share_prefill(shared)
    return plain, shared


@pytest.mark.parametrize("name", ROWS)
def test_the_samples_are_the_same(models, processor, name):
    plain, shared = models
    seen = forwarded(shared)
    inputs = prompts(processor, ROWS[name])
    assert_same_samples(plain, shared, inputs, seeds=range(4))
    distinct = {"groups": 2, "apart": 2, "sizes": 2, "text": 2, "mixed": 2}[name]
    assert seen[0] == (distinct, inputs["input_ids"].shape[1]), "each prompt is read once"
    assert seen[1] == (len(ROWS[name]), 1), "then single tokens"


def test_one_batch_leaves_nothing_to_the_next(models, processor):
    plain, shared = models
    for name in ("groups", "text", "sizes", "mixed", "text"):
        assert_same_samples(plain, shared, prompts(processor, ROWS[name]))


@pytest.mark.parametrize(("family", "config"), [(Qwen3ForCausalLM, Qwen3Config), (LlamaForCausalLM, LlamaConfig)])
def test_text_models_with_prompts_of_unequal_length(family, config):
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    plain = sharp(family(config(**sizes, **heads)))
    shared = copy.deepcopy(plain)
    share_prefill(shared)
    ids = torch.tensor([[0] * 9 + [7, 8, 9]] * 2 + [list(range(20, 32))] * 2)
    inputs = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    assert_same_samples(plain, shared, inputs, seeds=range(4))


def test_single_prompts_are_generated_as_before(models, processor):
    plain, shared = models
    one = prompts(processor, [("red?", [NOISE])])
    assert_same_samples(plain, shared, one)


@pytest.mark.parametrize(
    "setting", [{"num_return_sequences": 2}, {"num_beams": 2}, {"use_cache": False}, {"cache_implementation": "static"}]
)
@pytest.mark.parametrize("where", ["configuration", "arguments"])
def test_what_cannot_be_shared_is_generated_as_before(models, processor, setting, where):
    plain, shared = models
    seen = forwarded(shared)
    inputs = prompts(processor, ROWS["groups"])
    given = {**inputs, **setting} if where == "arguments" else inputs
    assert_same_samples(plain, shared, given, **(setting if where == "configuration" else {}))
    assert all(rows != 2 for rows, _ in seen), "no prompt is read for several rows"


def test_processes_of_a_sharded_model_prefill_together(tiny_path, tmp_path):
    """A process whose prompts all differ makes as many forwards as one with groups; otherwise both wait for ever."""
    gloo_processes("tests.models.prefill_worker", tiny_path, tiny_path, said=tmp_path / "said.txt")


def test_a_scoring_forward_after_generation_is_untouched(models, processor):
    plain, shared = models
    sampled(shared, prompts(processor, ROWS["groups"]))
    inputs, _ = batch(processor, CASES["several images, of several sizes"])
    assert torch.equal(plain(**inputs).logits, shared(**inputs).logits)


def test_transformers_still_gives_generation_its_positions():
    """Private, and what ``generate`` itself calls: prefilled prompts must stand where it counts on from."""
    for family in (Qwen3VLForConditionalGeneration, Qwen2_5_VLForConditionalGeneration, Qwen3ForCausalLM):
        parameters = inspect.signature(family._prepare_position_ids_for_generation).parameters
        assert list(parameters) == ["self", "inputs_tensor", "model_kwargs"]
