"""Prompts prefilled once give the samples of the plain way."""

import pytest
import torch
from transformers import GenerationConfig

from ptdpo.models import load_model
from ptdpo.models.shared_prefill import share_prefill
from tests.models.test_shared_prefix import CASES, NOISE, OTHER, WIDE, batch

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


def sampled(model, inputs, **settings):
    torch.manual_seed(0)
    config = GenerationConfig(max_new_tokens=8, do_sample=True, eos_token_id=1, pad_token_id=0, **settings)
    return model.generate(**inputs, generation_config=config)


def forwarded(model):
    """Count the rows of the first forward of each generation."""
    rows = []
    model.base_model.language_model.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    return rows


@pytest.mark.parametrize("name", ROWS)
def test_the_samples_are_the_same(tiny_path, processor, name):
    plain, shared = load_model(tiny_path).eval(), load_model(tiny_path).eval()
    share_prefill(shared)
    seen = forwarded(shared)
    inputs = prompts(processor, ROWS[name])
    assert torch.equal(sampled(plain, inputs), sampled(shared, inputs))
    distinct = {"groups": 2, "apart": 2, "sizes": 2, "text": 2, "mixed": 2}[name]
    assert seen[0] == (distinct, inputs["input_ids"].shape[1]), "each prompt is read once"
    assert seen[1] == (len(ROWS[name]), 1), "then single tokens"


def test_what_cannot_be_shared_is_generated_as_before(tiny_path, processor):
    plain, shared = load_model(tiny_path).eval(), load_model(tiny_path).eval()
    share_prefill(shared)
    seen = forwarded(shared)
    one = prompts(processor, [("red?", [NOISE])])
    assert torch.equal(sampled(plain, one), sampled(shared, one))
    same = prompts(processor, ROWS["groups"])
    assert torch.equal(sampled(plain, same, num_return_sequences=2), sampled(shared, same, num_return_sequences=2))
    assert all(rows != 2 for rows, _ in seen)


def test_a_scoring_forward_after_generation_is_untouched(tiny_path, processor):
    plain, shared = load_model(tiny_path).eval(), load_model(tiny_path).eval()
    share_prefill(shared)
    sampled(shared, prompts(processor, ROWS["groups"]))
    inputs, _ = batch(processor, CASES["several images, of several sizes"])
    assert torch.equal(plain(**inputs).logits, shared(**inputs).logits)
