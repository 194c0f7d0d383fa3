"""Tiny models whose sizes vLLM's kernels take: heads of 32 numbers, where other tests have 8."""

from pathlib import Path

import torch
import transformers

from ptdpo.models.sampling import banned_token_ids
from tests import tiny_families, tiny_vision
from tests.tiny_families import make_tokenizer

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 512,
}
VISION = {"depth": 2, "hidden_size": 64, "num_heads": 2, "patch_size": 8, "spatial_merge_size": 2}
# The rest of a family's vision tower, and how its positions in time, height and width share a head's frequencies.
FAMILIES = {
    "qwen2_vl": ("Qwen2VL", {"embed_dim": 64, "hidden_size": 64, "mlp_ratio": 2}, {"mrope_section": [4, 6, 6]}),
    "qwen2_5_vl": (
        "Qwen2_5_VL",
        {"intermediate_size": 96, "out_hidden_size": 64, "window_size": 32, "fullatt_block_indexes": [1]},
        {"mrope_section": [4, 6, 6]},
    ),
    "qwen3_vl": (
        "Qwen3VL",
        {
            "intermediate_size": 96,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [1],
        },
        # transformers interleaves whatever the configuration says; vLLM reads it there, as published ones have it.
        {"mrope_section": [6, 5, 5], "mrope_interleaved": True},
    ),
}


def save_model(folder, name, *, hushed=True):
    """Make a model and its processor, save both, and return the folder; ``qwen3`` is one of text.

    Hushed, it gives special tokens no probability, so that banning them changes none.
    """
    tokenizer = make_tokenizer(name)
    sizes = {**TEXT, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if name == "qwen3":
        config, processor = transformers.Qwen3Config(**sizes, tie_word_embeddings=False), tokenizer
    else:
        config, processor = _vision(name, tokenizer, sizes)
    torch.manual_seed(0)
    kind = transformers.AutoModelForCausalLM if name == "qwen3" else transformers.AutoModelForImageTextToText
    model = tiny_families.sharp(kind.from_config(config), tokenizer)
    if hushed:
        _hush(model, banned_token_ids(tokenizer, [tokenizer.eos_token_id]))
    model.save_pretrained(Path(folder))
    processor.save_pretrained(Path(folder))
    return str(folder)


@torch.no_grad()
def _hush(model, ids):
    """Give every token's state a first number that stays positive, for which the head does not want these ids."""
    for name, parameter in model.named_parameters():
        if "visual" not in name and name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter[0] = 0.0
    model.get_input_embeddings().weight[:, 0] = 1.0
    head = model.get_output_embeddings().weight
    head[:, 0] = 0.0
    head[ids] = 0.0
    head[ids, 0] = -50.0


def _vision(name, tokenizer, sizes):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    kind, vision, rope = FAMILIES[name]
    ids = {
        f"{part}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
        for part, token in {
            "image": "image_pad",
            "video": "video_pad",
            "vision_start": "vision_start",
            "vision_end": "vision_end",
        }.items()
    }
    config = getattr(transformers, f"{kind}Config")(
        text_config={**sizes, "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, **rope}},
        vision_config={**VISION, **vision},
        **ids,
    )
    images = Qwen2VLImageProcessorPil(
        patch_size=8, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 256, "longest_edge": 16_384}
    )
    return config, tiny_vision.processor_of(name, tokenizer, images)
