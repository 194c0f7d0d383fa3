"""The tiny model is a real Qwen3-VL: made, saved, reloaded, sampled from."""

import importlib.util
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoTokenizer, Qwen3VLForConditionalGeneration

from ptdpo.evaluate.prompts import chat_messages, prompt_parts
from ptdpo.models import TinyVLMSettings, load_model, load_processor, make_tiny_vlm
from ptdpo.models.sampling import Generated, _generated, banned_token_ids, end_token_ids, generate_batch

TEXTS = ["what is the alpha score of this picture? red 2 blue 1 <think> \\boxed{7}"] * 3


def test_the_default_has_about_a_million_parameters(tmp_path):
    model = load_model(str(make_tiny_vlm(tmp_path, TEXTS)))
    assert isinstance(model, Qwen3VLForConditionalGeneration)
    assert 0.5e6 < sum(p.numel() for p in model.parameters()) < 1.5e6
    assert AutoConfig.from_pretrained(tmp_path).model_type == "qwen3_vl"
    assert AutoTokenizer.from_pretrained(tmp_path).eos_token == "<|im_end|>"


def test_the_seed_decides_the_weights_and_the_global_stream_is_left_alone(tmp_path):
    state = torch.get_rng_state()
    first, again, other = (
        load_model(str(make_tiny_vlm(tmp_path / name, TEXTS, TinyVLMSettings(seed=seed)))).state_dict()
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_every_image_becomes_one_token_per_sixteen_pixels_and_think_is_one_token(processor):
    from PIL import Image

    conversation = [{"role": "user", "content": [{"type": "image", "image": None}, {"type": "text", "text": "q"}]}]
    text = processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    assert text.endswith("<|im_start|>assistant\n<think>")
    ids = processor(text=[text], images=[Image.new("RGB", (48, 32))])["input_ids"][0]
    assert list(ids).count(processor.image_token_id) == 6
    assert len(processor.tokenizer("<think>")["input_ids"]) == 1


def test_decoding_keeps_the_thinking_and_drops_the_markers(processor):
    tokenizer = processor.tokenizer
    ids = tokenizer("<think>red 12</think>\n\\boxed{12}<|im_end|>")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think>red 12</think>\n\\boxed{12}"
    assert len(tokenizer("12")["input_ids"]) == 2, "digits stay single"


def test_processors_that_need_torchvision_are_one_clear_line(tmp_path, monkeypatch):
    from transformers import Gemma4Config

    Gemma4Config().save_pretrained(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"Gemma4Processor .* needs torchvision"):
        load_processor(str(tmp_path))


def prompts_of(scenes):
    return [chat_messages(prompt_parts(scene.problem, "")) for scene in scenes]


def test_sampling_has_its_own_stream_and_restores_the_mode(model, processor, scenes):
    prompts = prompts_of(scenes[:5])
    model.train()
    state = torch.get_rng_state()
    draws = [generate_batch(model, processor, prompts, max_new_tokens=6, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert len(draws[0]) == 5
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]


def test_greedy_sampling_does_not_depend_on_the_seed(model, processor, scenes):
    prompts = prompts_of(scenes[:2])
    draws = [generate_batch(model, processor, prompts, max_new_tokens=4, seed=seed, greedy=True) for seed in (1, 2)]
    assert draws[0] == draws[1]


def test_banned_ids_are_the_special_ones_but_the_ends(model, processor):
    tokenizer = processor.tokenizer
    ends = end_token_ids(model, tokenizer)
    assert ends == [tokenizer.eos_token_id]
    banned = banned_token_ids(tokenizer, ends)
    assert tokenizer.convert_tokens_to_ids("<|vision_start|>") in banned
    assert tokenizer.convert_tokens_to_ids("<think>") not in banned
    assert not set(ends) & set(banned)


def test_the_models_own_generation_settings_do_not_leak_into_sampling(model, processor, scenes):
    """``generate`` fills what is not set from the model: some bring a repetition penalty, top-k or min-p."""
    prompts = prompts_of(scenes[:3])
    plain = generate_batch(model, processor, prompts, max_new_tokens=12, seed=1)
    model.generation_config.update(repetition_penalty=9.0, min_p=0.9, top_k=1, temperature=0.01, no_repeat_ngram_size=1)
    assert generate_batch(model, processor, prompts, max_new_tokens=12, seed=1) == plain


def test_lengths_count_the_end_token_and_say_what_was_cut():
    assert _generated("a b", [5, 6, 1, 0, 0], [1]) == Generated("a b", 3, truncated=False)
    assert _generated("a b c", [5, 6, 7], [1]) == Generated("a b c", 3, truncated=True)
    assert _generated("", [1, 0], [1]) == Generated("", 1, truncated=False)


class _Runs:
    """What a pickle would run."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("kind", ["cut off", "pickle", "torch's pickle", "of other sizes", "adapter"])
def test_weights_that_cannot_be_read_are_one_line_and_nothing_is_run(tmp_path, tiny_path, kind):
    mark = tmp_path / "ran"
    folder = Path(shutil.copytree(tiny_path, tmp_path / "bad"))
    weights = folder / "model.safetensors"
    if kind == "cut off":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif kind == "of other sizes":
        save_file({name: w[..., :1].contiguous() for name, w in load_file(weights).items()}, weights, {"format": "pt"})
    elif kind == "adapter":
        weights.unlink()
        (folder / "adapter_config.json").write_text(
            json.dumps({"base_model_name_or_path": tiny_path, "peft_type": "LORA", "target_modules": ["q_proj"]})
        )
        (folder / "adapter_model.bin").write_bytes(pickle.dumps(_Runs(mark), protocol=2))
    elif kind == "pickle":
        weights.unlink()
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Runs(mark), protocol=2))
    else:
        weights.unlink()
        torch.save(_Runs(mark), folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="bad: its weights cannot be read") as refused:
        load_model(str(folder))
    assert "\n" not in str(refused.value)
    assert not mark.exists()
