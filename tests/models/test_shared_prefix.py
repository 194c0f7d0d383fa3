"""A packed row gives the hidden states and gradients of the plain layout, with each prompt and image read once."""

import logging

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import Qwen3Config, Qwen3ForCausalLM

from ptdpo.data.prompts import attach_images, conversation
from ptdpo.models import load_model, packed_attention
from ptdpo.models.shared_prefix import enable_shared_prefix, say_plain, shared_hidden_states

NOISE, OTHER = (Image.effect_noise((48, 48), sigma).convert("RGB") for sigma in (40, 90))
WIDE = Image.effect_noise((64, 48), 60).convert("RGB")


def batch(processor, rows):
    """The plain layout of (question, images, response) rows, and the response mask."""
    texts = [
        processor.apply_chat_template(
            attach_images(conversation(question), images), tokenize=False, add_generation_prompt=True
        )
        for question, images, _ in rows
    ]
    images = [list(images) for _, images, _ in rows]
    inputs = dict(
        processor(
            text=texts, images=images if any(images) else None, padding=True, padding_side="left", return_tensors="pt"
        )
    )
    return with_responses(inputs, [processor.tokenizer(text)["input_ids"] for *_, text in rows])


def with_responses(inputs, responses):
    longest = max(map(len, responses))
    ids = torch.tensor([response + [0] * (longest - len(response)) for response in responses])
    mask = torch.tensor([[n < len(response) for n in range(longest)] for response in responses])
    inputs["input_ids"] = torch.cat([inputs["input_ids"], ids], dim=1)
    inputs["attention_mask"] = torch.cat([inputs["attention_mask"], mask.long()], dim=1)
    if "mm_token_type_ids" in inputs:
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(ids)], dim=1)
    return inputs, mask


def plain_states(model, inputs, mask):
    return model.base_model(**inputs, use_cache=False).last_hidden_state[:, -1 - mask.size(1) : -1]


def states_and_gradients(model, states, mask):
    model.zero_grad()
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(0))
    (states * weights)[mask].sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return states.detach()[mask], gradients


def assert_same(model, inputs, mask, value=2e-5, gradient=2e-4):
    """Shared equals plain: absolute tolerance for values, relative norm for each parameter's gradient."""
    expected, gradients = states_and_gradients(model, plain_states(model, inputs, mask), mask)
    shared = shared_hidden_states(model, inputs, mask)
    assert shared is not None, "nothing was shared"
    got, got_gradients = states_and_gradients(model, shared, mask)
    torch.testing.assert_close(got, expected, rtol=0, atol=value)
    assert got_gradients.keys() == gradients.keys()
    # Gradients that ought to vanish are rounding on both sides.
    least = 1e-6 * max(reference.norm() for reference in gradients.values())
    for name, reference in gradients.items():
        assert (got_gradients[name] - reference).norm() <= gradient * reference.norm() + least, name


CASES = {
    "two groups of unequal responses": [
        ("red?", [NOISE], "top"),
        ("red?", [NOISE], "top row red"),
        ("what is blue in the top row?", [OTHER], "x y z"),
        ("what is blue in the top row?", [OTHER], "blue"),
        ("what is blue in the top row?", [OTHER], "green red blue"),
    ],
    "rows of groups apart, one response alone": [
        ("red?", [NOISE], "top"),
        ("green?", [NOISE], "row"),
        ("red?", [NOISE], "top row"),
    ],
    "several images, of several sizes": [
        ("red?", [NOISE, WIDE], "a b"),
        ("red?", [NOISE, WIDE], "c"),
        ("red?", [WIDE, NOISE], "c"),
        ("red?", [NOISE], "d"),
    ],
    "with and without images": [
        ("red?", [], "a b"),
        ("red?", [NOISE], "c"),
        ("red?", [], "c"),
        ("red?", [NOISE], "d"),
    ],
    "no image at all": [("red?", [], "a b"), ("red?", [], "c"), ("blue?", [], "d")],
}


@pytest.fixture
def sharing(model):
    assert enable_shared_prefix(model)
    return model.eval()


@pytest.mark.parametrize("least_block", [2, packed_attention.LEAST_BLOCK])
@pytest.mark.parametrize("name", CASES)
def test_shared_equals_plain(sharing, processor, monkeypatch, name, least_block):
    monkeypatch.setattr(packed_attention, "LEAST_BLOCK", least_block)
    assert_same(sharing, *batch(processor, CASES[name]))


def test_rows_without_a_response_are_left_out(sharing, processor):
    inputs, mask = batch(processor, CASES["two groups of unequal responses"])
    for row in (1, 2):
        mask[row] = False
        inputs["attention_mask"][row, -mask.size(1) :] = 0
    assert_same(sharing, inputs, mask)


def test_the_same_question_about_another_image_is_another_group(sharing, processor):
    rows = [("red?", [NOISE], "a"), ("red?", [OTHER], "a"), ("red?", [NOISE], "a")]
    inputs, mask = batch(processor, rows)
    shared = shared_hidden_states(sharing, inputs, mask)
    torch.testing.assert_close(shared[0], shared[2])
    assert (shared[0] - shared[1]).abs().max() > 1e-3
    assert_same(sharing, inputs, mask)


def test_each_image_is_encoded_once_and_no_mask_is_made(sharing, processor):
    seen = {}
    vision, layer = sharing.base_model.visual, sharing.base_model.language_model.layers[0]
    vision.register_forward_pre_hook(lambda _, args, kwargs: seen.update(patches=args[0].shape[0]), with_kwargs=True)
    layer.register_forward_pre_hook(
        lambda _, args, kwargs: seen.update(tokens=args[0].shape[1], mask=kwargs["attention_mask"].numel()),
        with_kwargs=True,
    )
    inputs, mask = batch(processor, [("red?", [NOISE], "a b c")] * 6)
    shared_hidden_states(sharing, inputs, mask)
    prompt = int(inputs["attention_mask"][0].sum() - mask[0].sum())
    assert seen == {"patches": inputs["pixel_values"].shape[0] // 6, "tokens": prompt + int(mask.sum()), "mask": 1}


def test_nothing_to_share_and_unknown_inputs_take_the_plain_path(sharing, processor):
    inputs, mask = batch(processor, [("red?", [NOISE], "a"), ("blue?", [NOISE], "a")])
    assert shared_hidden_states(sharing, inputs, mask) is None
    inputs, mask = batch(processor, CASES["no image at all"])
    assert shared_hidden_states(sharing, {**inputs, "pixel_values_videos": torch.zeros(1)}, mask) is None


def test_other_calls_are_untouched(tiny_path, processor):
    plain, sharing = load_model(tiny_path), load_model(tiny_path)
    assert enable_shared_prefix(sharing)
    assert enable_shared_prefix(sharing), "twice is once"
    inputs, _ = batch(processor, CASES["several images, of several sizes"])
    assert torch.equal(plain(**inputs).logits, sharing(**inputs).logits)
    kept = plain.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert torch.equal(kept, sharing.generate(**inputs, max_new_tokens=3, do_sample=False))
    assert sharing.config.vision_config._attn_implementation == "sdpa"


def test_unsupported_models_fall_back_with_one_line(tiny_path, caplog):
    say_plain.cache_clear()
    model = load_model(tiny_path)
    model.set_attn_implementation("eager")
    with caplog.at_level(logging.WARNING):
        assert not enable_shared_prefix(model)
        assert not enable_shared_prefix(model), "as for a reference of the same kind"
    assert [r.getMessage() for r in caplog.records] == [
        "Qwen3VLForConditionalGeneration is scored without a shared prefix: "
        "attention 'eager' has no packed form; 'sdpa' has"
    ]
    model.config.model_type = "martian_vl"
    assert not enable_shared_prefix(model)
    assert model.config.get_text_config()._attn_implementation == "eager"


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_another_attention_since_takes_the_plain_path(sharing, processor, attention):
    """Under it a packed row would see everything: other prompts, and what comes later."""
    inputs, mask = batch(processor, CASES["two groups of unequal responses"])
    assert shared_hidden_states(sharing, inputs, mask) is not None
    sharing.set_attn_implementation(attention)
    assert shared_hidden_states(sharing, inputs, mask) is None


def test_gradient_checkpointing_recomputes_the_packed_row(sharing, processor):
    inputs, mask = batch(processor, CASES["two groups of unequal responses"])
    expected = states_and_gradients(sharing, shared_hidden_states(sharing, inputs, mask), mask)
    sharing.train()
    sharing.gradient_checkpointing_enable({"use_reentrant": False})
    got = states_and_gradients(sharing, shared_hidden_states(sharing, inputs, mask), mask)
    torch.testing.assert_close(got[0], expected[0])
    torch.testing.assert_close(got[1], expected[1])


def test_bfloat16_autocast_stays_as_close_as_bfloat16_is(sharing, processor):
    inputs, mask = batch(processor, CASES["two groups of unequal responses"])
    exact = plain_states(sharing, inputs, mask)[mask]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = plain_states(sharing, inputs, mask)[mask].float()
        shared = shared_hidden_states(sharing, inputs, mask)[mask].float()
    assert (shared - exact).norm() <= 1.5 * (plain - exact).norm()


def made_batch(prompts, responses):
    """The plain layout of token lists."""
    longest = max(map(len, prompts))
    inputs = {
        "input_ids": torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts]),
        "attention_mask": torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]),
    }
    return with_responses(inputs, responses)


@pytest.fixture(scope="module")
def text_model():
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
    )
    model = Qwen3ForCausalLM(config).eval()
    assert enable_shared_prefix(model)
    return model


@pytest.fixture(scope="module", params=["tiny_path", "qwen2_5_path"])
def vision_model(request):
    model = load_model(request.getfixturevalue(request.param)).eval()
    assert enable_shared_prefix(model)
    return model


questions = st.tuples(
    st.sampled_from(["red?", "what is blue in the top row?", "x"]),
    st.lists(st.sampled_from([NOISE, OTHER, WIDE]), max_size=2),
)
answers = st.lists(st.sampled_from(["top", "top row red", "x y z blue", "1"]), min_size=1, max_size=3)


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(questions, answers), min_size=1, max_size=3), st.randoms())
def test_any_shape_of_groups_with_images(vision_model, processor, groups, random):
    rows = [(*question, answer) for question, given in groups for answer in [*given, given[0]]]
    random.shuffle(rows)
    inputs, mask = batch(processor, rows)
    assert_same(vision_model, inputs, mask)


tokens = st.lists(st.integers(1, 49), min_size=1, max_size=9)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(tokens, st.lists(tokens, min_size=1, max_size=4)), min_size=1, max_size=3), st.randoms())
def test_any_shape_of_groups(text_model, groups, random):
    rows = [(prompt, response) for prompt, responses in groups for response in [*responses, responses[0]]]
    random.shuffle(rows)
    inputs, mask = made_batch([prompt for prompt, _ in rows], [response for _, response in rows])
    assert_same(text_model, inputs, mask)
