"""Models with another attention than ``sdpa``: packed rows are exact, and every other call is that attention's own."""

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ptdpo.models import load_model, packed_attention
from ptdpo.models.packed_attention import packing, unpacked
from ptdpo.models.shared_prefill import share_prefill
from ptdpo.models.shared_prefix import enable_shared_prefix, shared_hidden_states
from tests.models.test_shared_prefill import ROWS, assert_same_samples, prompts, sharp
from tests.models.test_shared_prefix import CASES, assert_same, batch, states_and_gradients

FLASH = ["flash_attention_2", "flash_attention_3"]


def flash_on_a_cpu(calls):
    """FlashAttention's contract in transformers: causal, aligned at the end, with [B, L] of what is no padding."""

    def attend(module, query, key, value, attention_mask, **kwargs):
        calls.append(tuple(query.shape))
        rows, _, queries, _ = query.shape
        seen = torch.ones(queries, key.size(2), dtype=torch.bool).tril(key.size(2) - queries)
        seen = seen.expand(rows, 1, -1, -1)
        if attention_mask is not None:
            assert attention_mask.ndim == 2
            seen = seen & attention_mask.bool()[:, None, None, :]
        # A row of padding sees something, as the kernel leaves it 0 and not NaN.
        seen = seen | ~seen.any(-1, keepdim=True)
        return sdpa_attention_forward(module, query, key, value, seen, scaling=kwargs.get("scaling"))

    return attend


@pytest.fixture
def calls(monkeypatch):
    made = []
    for name in FLASH:
        monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, name, flash_on_a_cpu(made))
    return made


def with_attention(path, name):
    model = load_model(path).eval()
    model.config.get_text_config()._attn_implementation = name
    return model


@pytest.mark.parametrize("attention", FLASH)
@pytest.mark.parametrize("case", ["two groups of unequal responses", "with and without images"])
def test_packed_rows_equal_the_plain_layout(calls, tiny_path, processor, attention, case):
    model = with_attention(tiny_path, attention)
    assert enable_shared_prefix(model)
    assert unpacked(model.config.get_text_config()._attn_implementation) == attention
    assert_same(model, *batch(processor, CASES[case]))
    assert calls, "the plain layout went through the model's own attention"


def test_a_recomputed_layer_finds_the_packed_row_again(calls, tiny_path, processor):
    model = with_attention(tiny_path, FLASH[0])
    enable_shared_prefix(model)
    inputs, mask = batch(processor, CASES["two groups of unequal responses"])
    expected = states_and_gradients(model, shared_hidden_states(model, inputs, mask), mask)
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    got = states_and_gradients(model, shared_hidden_states(model, inputs, mask), mask)
    torch.testing.assert_close(got, expected)
    assert not calls, "packed rows do not go through it"


def test_generation_goes_on_with_the_models_own_attention(calls, tiny_path, processor):
    plain, shared = (sharp(with_attention(tiny_path, FLASH[0])) for _ in range(2))
    enable_shared_prefix(shared)
    share_prefill(shared)
    assert_same_samples(plain, shared, prompts(processor, ROWS["groups"]))
    assert calls


def test_names_lead_there_and_back():
    for base in ("sdpa", *FLASH, "flex_attention"):
        name = packing(base)
        assert name not in (None, base)
        assert packing(name) == name
        assert unpacked(name) == base
        assert packed_attention.AttentionMaskInterface._global_mapping[name]
    assert packing("eager") is None
    assert packing(None) is None
    assert unpacked("eager") == "eager"
