"""Configurations and processors of tiny vision-language models, one maker for each family."""

import importlib.util

import transformers

from ptdpo.models.loading import image_only

TORCHVISION = importlib.util.find_spec("torchvision") is not None
_OTHER_PARTS = {
    "video_processor": {
        **dict.fromkeys(("qwen2_vl", "qwen2_5_vl"), "Qwen2VLVideoProcessor"),
        **dict.fromkeys(("qwen3_vl", "qwen3_5", "qwen3_5_moe"), "Qwen3VLVideoProcessor"),
        "internvl": "InternVLVideoProcessor",
        "smolvlm": "SmolVLMVideoProcessor",
        "gemma4": "Gemma4VideoProcessor",
    },
    "feature_extractor": {"gemma4": "Gemma4AudioFeatureExtractor"},
}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
}
_VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
EXPERTS = {"num_experts_per_tok": 2, "output_router_logits": False}


def _text(tokenizer, **changes):
    return {**TEXT, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **changes}


def processor_of(name, tokenizer, image_processor, **arguments):
    kind = transformers.models.auto.processing_auto.PROCESSOR_MAPPING_NAMES[name]
    given = {"image_processor": image_processor, "tokenizer": tokenizer, "chat_template": tokenizer.chat_template}
    kind = getattr(transformers, kind)
    given |= {part: _other_part(name, part) for part in kind.get_attributes() if part not in given}
    return (kind if TORCHVISION else image_only(kind))(**given, **arguments)


def _other_part(name, part):
    """Where there is torchvision a processor wants its halves for videos and sounds too."""
    kind = _OTHER_PARTS.get(part, {}).get(name)
    return getattr(transformers, kind)() if TORCHVISION and kind else None


def _id(tokenizer, token):
    return tokenizer.convert_tokens_to_ids(token)


_QWEN = {
    "qwen2_vl": "Qwen2VL",
    "qwen2_5_vl": "Qwen2_5_VL",
    "qwen3_vl": "Qwen3VL",
    "qwen3_5": "Qwen3_5",
    "qwen3_5_moe": "Qwen3_5Moe",
}


def _qwen(name):
    def make(tokenizer):
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]}
        vision = {"depth": 2, "hidden_size": 32, "num_heads": 2, "patch_size": 8, "spatial_merge_size": 2}
        text = _text(tokenizer, rope_parameters=rope)
        if name == "qwen2_vl":
            vision |= {"embed_dim": 32, "mlp_ratio": 2}
        elif name == "qwen2_5_vl":
            vision |= {"intermediate_size": 64, "out_hidden_size": 32, "window_size": 32, "fullatt_block_indexes": [1]}
        else:
            vision |= {"intermediate_size": 64, "out_hidden_size": 32, "num_position_embeddings": 64}
        if name == "qwen3_vl":
            vision |= {"deepstack_visual_indexes": [1]}
        if name.startswith("qwen3_5"):
            rope["partial_rotary_factor"] = 1.0
            text |= {
                "layer_types": ["linear_attention", "full_attention"],
                "linear_key_head_dim": 8,
                "linear_value_head_dim": 8,
                "linear_num_key_heads": 2,
                "linear_num_value_heads": 4,
            }
        if name == "qwen3_5_moe":
            text |= {"num_experts": 4, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24, **EXPERTS}
        kind = _QWEN[name]
        config = getattr(transformers, f"{kind}Config")(
            text_config=text,
            vision_config=vision,
            image_token_id=_id(tokenizer, "<|image_pad|>"),
            video_token_id=_id(tokenizer, "<|video_pad|>"),
            vision_start_token_id=_id(tokenizer, "<|vision_start|>"),
            vision_end_token_id=_id(tokenizer, "<|vision_end|>"),
        )
        images = Qwen2VLImageProcessorPil(
            patch_size=8, merge_size=2, temporal_patch_size=2, size={"shortest_edge": 256, "longest_edge": 16_384}
        )
        return config, processor_of(name, tokenizer, images)

    return make


def _gemma3(tokenizer):
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    config = transformers.Gemma3Config(
        text_config=_text(
            tokenizer, sliding_window=9, query_pre_attn_scalar=8, layer_types=["sliding_attention", "full_attention"]
        ),
        vision_config={**_VISION, "model_type": "siglip_vision_model"},
        mm_tokens_per_image=4,
        boi_token_index=_id(tokenizer, "<start_of_image>"),
        eoi_token_index=_id(tokenizer, "<end_of_image>"),
        image_token_index=_id(tokenizer, "<image_soft_token>"),
    )
    images = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    return config, processor_of("gemma3", tokenizer, images, image_seq_length=4)


def _gemma4(tokenizer):
    from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

    rope = {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        "full_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    }
    config = transformers.Gemma4Config(
        text_config=_text(
            tokenizer,
            sliding_window=64,
            layer_types=["sliding_attention", "full_attention"],
            vocab_size_per_layer_input=len(tokenizer),
            hidden_size_per_layer_input=8,
            global_head_dim=8,
            rope_parameters=rope,
        ),
        vision_config={
            **{key: value for key, value in _VISION.items() if key != "image_size"},
            "num_key_value_heads": 2,
            "head_dim": 16,
            "pooling_kernel_size": 2,
            "position_embedding_size": 64,
        },
        boi_token_id=_id(tokenizer, "<|image>"),
        eoi_token_id=_id(tokenizer, "<image|>"),
        image_token_id=_id(tokenizer, "<|image|>"),
    )
    images = Gemma4ImageProcessorPil(patch_size=8, max_soft_tokens=70, pooling_kernel_size=2)
    return config, processor_of("gemma4", tokenizer, images, image_seq_length=70)


def _llava_next(tokenizer):
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    pinpoints = [[32, 64], [64, 32]]
    config = transformers.LlavaNextConfig(
        text_config={**_text(tokenizer), "model_type": "mistral"},
        vision_config={**_VISION, "model_type": "clip_vision_model", "projection_dim": 32},
        image_token_index=_id(tokenizer, "<image>"),
        image_grid_pinpoints=pinpoints,
        vision_feature_layer=-1,
    )
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=pinpoints
    )
    return config, processor_of(
        "llava_next",
        tokenizer,
        images,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def _llava(tokenizer):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    config = transformers.LlavaConfig(
        text_config={**_text(tokenizer), "model_type": "llama"},
        vision_config={**_VISION, "model_type": "clip_vision_model", "projection_dim": 32},
        image_token_index=_id(tokenizer, "<image>"),
        image_seq_length=16,
        vision_feature_layer=-1,
    )
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return config, processor_of(
        "llava",
        tokenizer,
        images,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def _idefics(name):
    def make(tokenizer):
        from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
        from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

        kind, processor = {
            "idefics3": (transformers.Idefics3Config, Idefics3ImageProcessorPil),
            "smolvlm": (transformers.SmolVLMConfig, SmolVLMImageProcessorPil),
        }[name]
        config = kind(
            text_config={**_text(tokenizer), "model_type": "llama"},
            vision_config=dict(_VISION),
            image_token_id=_id(tokenizer, "<image>"),
            scale_factor=2,
        )
        images = processor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
        return config, processor_of(name, tokenizer, images, image_seq_len=4)

    return make


def _internvl(tokenizer):
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    config = transformers.InternVLConfig(
        text_config={**_text(tokenizer), "model_type": "qwen2"},
        vision_config={**_VISION, "image_size": [32, 32], "patch_size": [8, 8]},
        image_token_id=_id(tokenizer, "<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    images = GotOcr2ImageProcessorPil(size={"height": 32, "width": 32}, min_patches=1, max_patches=3)
    return config, processor_of("internvl", tokenizer, images, image_seq_length=4)


VISION_MAKERS = {
    **{name: _qwen(name) for name in _QWEN},
    "gemma3": _gemma3,
    "gemma4": _gemma4,
    "llava": _llava,
    "llava_next": _llava_next,
    "idefics3": _idefics("idefics3"),
    "smolvlm": _idefics("smolvlm"),
    "internvl": _internvl,
}
