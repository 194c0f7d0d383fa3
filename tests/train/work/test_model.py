"""The weights that tokens and patches meet, against those of real models."""

import pytest
from torch import nn

from ptdpo.models import load_model
from ptdpo.train.memory.sizes import published_config, sizes_of, text_blocks
from ptdpo.train.work.model import Products, work_of
from tests import tiny_families


def test_a_token_meets_the_linear_layers_of_all_blocks(tiny_path):
    model = load_model(tiny_path)
    work, config = work_of(sizes_of(model.config)), model.config
    linear = [m for block in text_blocks(model) for m in block.modules() if isinstance(m, nn.Linear)]
    assert work.token == sum(m.weight.numel() for m in linear)
    text = config.text_config
    assert work.pair == 4 * text.num_hidden_layers * text.num_attention_heads * text.head_dim
    assert work.head == text.vocab_size * text.hidden_size
    assert work.merge == config.vision_config.spatial_merge_size**2
    assert work.patch_pair == 4 * config.vision_config.depth * config.vision_config.hidden_size


def test_published_sizes():
    work = work_of(sizes_of(published_config("Qwen/Qwen3-VL-8B-Thinking")))
    # 36 blocks of 4096 x (4096 + 2 x 1024 + 4096) + 3 x 4096 x 12288.
    assert work.token == 36 * (4096 * (4096 + 2 * 1024 + 4096) + 3 * 4096 * 12288)
    assert work_of(sizes_of(published_config("Qwen/Qwen3-VL-8B-Thinking")), 16).trained == pytest.approx(
        0.0062, abs=1e-4
    )


def test_windows_of_a_vision_tower_see_less(tmp_path):
    sizes = sizes_of(load_model(tiny_families.save_vision_model(tmp_path, "qwen2_5_vl")).config)
    work, vision = work_of(sizes), sizes.vision
    whole = len(vision.fullatt_block_indexes)
    assert work.patch_pair == 4 * whole * vision.hidden_size
    assert work.window_pair == 4 * (vision.depth - whole) * vision.hidden_size
    large, small = work.seeing(4000).attention, work.seeing(1).attention
    patches = 4000 * work.merge
    assert large == work.patch_pair * patches**2 + work.window_pair * patches * work.window
    assert small == (work.patch_pair + work.window_pair) * work.merge**2


def test_a_model_of_text_sees_nothing(tmp_path):
    work = work_of(sizes_of(load_model(tiny_families.save_vision_model(tmp_path, "gemma3")).config))
    assert work.seeing(10) == Products(0, 0)


def test_both_ways_by_hand():
    assert Products(10, 4).both_ways(1.0, repeated=True) == 10 * 4 + 4 * 4.5
    assert Products(10, 4).both_ways(0.1, repeated=False) == pytest.approx(10 * 2.1 + 4 * 3.5)
