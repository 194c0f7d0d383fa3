"""Each family's packed row equals its plain layout, from its real processor's tensors; what does not fit is named."""

import copy

import pytest
import torch
from transformers import AutoConfig

from ptdpo.models import load_model, load_processor
from ptdpo.models.family import FAMILIES, SHARED_TYPES, family_of, image_entries, why_not_shared, without_empty_images
from ptdpo.models.shared_prefill import share_prefill
from ptdpo.models.shared_prefix import enable_shared_prefix, shared_hidden_states
from tests import tiny_families, tiny_vision
from tests.models.test_shared_prefill import assert_same_samples
from tests.models.test_shared_prefix import NOISE, OTHER, WIDE, assert_same, batch, made_batch

# Three-dimensional positions and deepstack: tests of their own.
VISION = ("gemma3", "idefics3", "smolvlm", "internvl", "qwen2_vl")
TEXT = sorted(set(tiny_families.TEXT_CONFIGS) & set(SHARED_TYPES))
ROWS = [
    ("red?", [NOISE], "top"),
    ("what is blue in the top row?", [OTHER, WIDE], "x y z"),
    ("red?", [NOISE], "top row red blue"),
    ("what is blue in the top row?", [OTHER, WIDE], "blue"),
    ("what is blue in the top row?", [OTHER, NOISE], "blue"),
    ("red?", [], "a b"),
    ("red?", [], "green blue"),
]


@pytest.fixture(scope="session")
def tiny_family(tmp_path_factory):
    made = {}

    def path(name):
        if name not in made:
            make = tiny_families.save_vision_model if name in tiny_families.VISION else tiny_families.save_text_model
            made[name] = make(tmp_path_factory.mktemp(name), name)
        return made[name]

    return path


def vision_batch(processor, rows):
    inputs, mask = batch(processor, rows)
    if "token_type_ids" in inputs:
        inputs["token_type_ids"] = torch.cat([inputs["token_type_ids"], torch.zeros_like(mask).long()], dim=1)
    return inputs, mask


@pytest.mark.parametrize("name", VISION)
@pytest.mark.parametrize("rows", [ROWS[:5], ROWS], ids=["images", "and text"])
def test_shared_equals_plain_with_images(tiny_family, name, rows):
    model, processor = load_model(tiny_family(name)).eval(), load_processor(tiny_family(name))
    assert enable_shared_prefix(model)
    assert_same(model, *vision_batch(processor, rows))


@pytest.mark.parametrize("name", TEXT)
def test_shared_equals_plain_for_models_of_text(tiny_family, name):
    """Prompts longer and shorter than the sliding window of those that have one, and responses across its edge."""
    model = load_model(tiny_family(name)).eval()
    assert enable_shared_prefix(model)
    short, long = [7, 8, 9], list(range(20, 31))
    prompts = [short, long, short, long, short]
    responses = [[1, 2, 3, 4, 5, 6, 7, 8], [4], [9], [3, 1, 2], [5, 6]]
    assert_same(model, *made_batch(prompts, responses))


@pytest.mark.parametrize("name", ["gemma3", "smolvlm", "internvl"])
def test_prompts_with_images_are_prefilled_once(tiny_family, name):
    plain, processor = load_model(tiny_family(name)).eval(), load_processor(tiny_family(name))
    if name == "gemma3":
        plain.config.text_config.sliding_window = 400
        for layer in plain.model.language_model.layers:
            layer.self_attn.sliding_window = 400 if layer.self_attn.is_sliding else None
    shared = copy.deepcopy(plain)
    share_prefill(shared)
    inputs, mask = vision_batch(processor, [("red?", [NOISE], "x")] * 2 + [("what is blue?", [OTHER], "x")] * 2)
    for key in ("input_ids", "attention_mask", "token_type_ids"):
        if key in inputs:
            inputs[key] = inputs[key][:, : -mask.size(1)]
    assert_same_samples(plain, shared, inputs)


def test_a_prompt_beyond_the_window_is_not_prefilled_for_several_rows(tiny_family):
    plain = load_model(tiny_family("mistral")).eval()
    shared = copy.deepcopy(plain)
    share_prefill(shared)
    rows = []
    shared.base_model.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(kwargs["input_ids"].size(0)), with_kwargs=True
    )
    ids = torch.tensor([list(range(20, 31))] * 2)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert_same_samples(plain, shared, inputs)
    assert set(rows) == {2}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("qwen3_5", "linear attention carries one state"),
        ("llava_next", "how many tokens an image takes"),
        ("gpt_oss", "model type 'gpt_oss' is not among llama, "),
    ],
)
def test_what_cannot_be_shared_is_named(tiny_family, name, reason):
    model = load_model(tiny_family(name))
    assert reason in why_not_shared(model.config)
    assert not enable_shared_prefix(model)


def test_a_language_model_without_a_record_is_named(tiny_family):
    config = AutoConfig.from_pretrained(tiny_family("internvl"))
    config.text_config.model_type = "martian"
    assert why_not_shared(config).startswith("its language model: model type 'martian' is not among")


def test_frequencies_that_depend_on_the_length_are_not_shared(tiny_family):
    config = AutoConfig.from_pretrained(tiny_family("phi3"))
    assert why_not_shared(config) is None
    config.rope_parameters = {**config.rope_parameters, "rope_type": "longrope"}
    assert "rope_type 'longrope'" in why_not_shared(config)


def test_an_image_in_a_response_takes_the_plain_path(tiny_family):
    model, processor = load_model(tiny_family("internvl")).eval(), load_processor(tiny_family("internvl"))
    enable_shared_prefix(model)
    inputs, mask = vision_batch(processor, [("red?", [NOISE], "a b c d"), ("red?", [NOISE], "x y")])
    assert shared_hidden_states(model, inputs, mask) is not None
    inputs["input_ids"][0, -mask.size(1)] = model.config.image_token_id
    assert shared_hidden_states(model, inputs, mask) is None


def test_no_model_type_stands_in_two_families():
    names = [name for family in FAMILIES for name in family.model_types]
    assert len(set(names)) == len(names)
    assert all(family.image_fields[0] == "pixel_values" for family in FAMILIES if family.layout != "none")


def test_image_tokens_that_fit_no_image_are_refused(tiny_family):
    config = AutoConfig.from_pretrained(tiny_family("internvl"))
    token, pixels = config.image_token_id, torch.ones(2, 3, 4, 4)
    family = family_of(config)
    prompts = torch.tensor([[token, token, 1], [token, token, 1]])
    entries = image_entries(family, config, {"pixel_values": pixels}, prompts)
    assert entries == [{"pixel_values": slice(0, 1)}, {"pixel_values": slice(1, 2)}]
    with pytest.raises(ValueError, match="3 image tokens in the prompts of a batch do not fit 2 images"):
        image_entries(family, config, {"pixel_values": pixels}, torch.tensor([[token, token, 1], [token, 1, 1]]))
    with pytest.raises(ValueError, match="do not fit the sizes of its images"):
        image_entries(family, config, {"pixel_values": pixels}, torch.tensor([[token] * 3, [token, 1, 1]]))


def test_tensors_without_an_image_are_left_out():
    inputs = {"input_ids": torch.ones(1, 2), "pixel_values": torch.zeros(0, 3, 4, 4)}
    assert set(without_empty_images(inputs)) == {"input_ids"}
    padding = {"pixel_values": torch.zeros(1, 2, 3, 4, 4), "pixel_attention_mask": torch.zeros(1, 2, 4, 4)}
    assert without_empty_images(padding) == {}
    kept = {"pixel_values": torch.ones(1, 3, 4, 4)}
    assert without_empty_images(kept) == kept


@pytest.mark.skipif(tiny_vision.TORCHVISION, reason="torchvision is installed")
def test_processors_of_every_family_load_without_torchvision(tiny_family):
    for name in ("qwen2_vl", "gemma3", "llava_next", "idefics3", "smolvlm", "internvl"):
        processor = load_processor(tiny_family(name))
        assert type(processor).__name__.endswith("Processor"), name
        assert "video_processor" not in processor.to_dict(), name


def test_models_of_text_load_with_their_tokenizer(tiny_family):
    model, tokenizer = load_model(tiny_family("qwen2")), load_processor(tiny_family("qwen2"))
    assert type(model).__name__ == "Qwen2ForCausalLM"
    assert tokenizer.padding_side == "left"
    assert tokenizer.pad_token is not None
