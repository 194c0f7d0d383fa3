"""A tiny model of every family, with its real architecture and its real processor, made on the spot."""

import importlib.util
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ptdpo.models.loading import image_only

TORCHVISION = importlib.util.find_spec("torchvision") is not None
WORDS = "red blue green top row what is in the 1 2 3 x y z a b c d hint: look at first second answer \\boxed{7}"
IMAGE = {
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "qwen3_5_moe"), "<|image_pad|>"),
    **dict.fromkeys(("llava", "llava_next", "idefics3", "smolvlm"), "<image>"),
    "gemma3": "<image_soft_token>",
    "gemma4": "<|image|>",
    "internvl": "<IMG_CONTEXT>",
}
# What a template writes for an image, where it is not the token that stands for its pieces.
_WRITTEN = {
    **dict.fromkeys(
        ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "qwen3_5_moe"), "<|vision_start|><|image_pad|><|vision_end|>"
    ),
    "gemma3": "<start_of_image>",
}
_NAMED = {
    "gemma3": {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"},
    "gemma4": {
        "image_token": "<|image|>",
        "boi_token": "<|image>",
        "eoi_token": "<image|>",
        "audio_token": "<|audio|>",
        "boa_token": "<|audio>",
        "eoa_token": "<audio|>",
    },
    "internvl": {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    },
    "smolvlm": {"image_token": "<image>", "fake_image_token": "<fake_token_around_image>"},
    "llava": {"image_token": "<image>"},
    "llava_next": {"image_token": "<image>"},
}
# What a processor has beside images and text, where there is torchvision.
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
_MARKERS = (
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
    "<video>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)
TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string -%}{{ message.content }}
{%- else -%}{%- for part in message.content -%}
{%- if part.type == 'image' -%}IMAGE{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}{%- endif -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}
"""
_TEXT = {
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
_EXPERTS = {"num_experts_per_tok": 2, "output_router_logits": False}
TEXT_CONFIGS = {
    "llama": ("LlamaConfig", {}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {}),
    "mistral": ("MistralConfig", {"sliding_window": 6}),
    "gemma": ("GemmaConfig", {}),
    "gemma3_text": ("Gemma3TextConfig", {"sliding_window": 6, "query_pre_attn_scalar": 8}),
    "phi": ("PhiConfig", {}),
    "phi3": ("Phi3Config", {"sliding_window": 6}),
    "qwen3_moe": ("Qwen3MoeConfig", {"num_experts": 4, "moe_intermediate_size": 24, **_EXPERTS}),
    "mixtral": ("MixtralConfig", {"num_local_experts": 4, **_EXPERTS}),
    "gpt_oss": ("GptOssConfig", {"num_local_experts": 4, "sliding_window": 128, **_EXPERTS}),
}


def make_tokenizer(name, template=TEMPLATE, words=WORDS, size=300):
    """Bytes and what is frequent in some words: in a corpus longer than ``WORDS`` fewer tokens are a text."""
    named = _NAMED.get(name, {})
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *_MARKERS, *named.values()]
    if IMAGE.get(name):
        specials.append(IMAGE[name])
    specials = list(dict.fromkeys(specials))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=len(specials) + size,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([words] * 3, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=named or None,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    fast.add_special_tokens({"additional_special_tokens": [t for t in specials if t not in fast.all_special_tokens]})
    fast.chat_template = template.replace("IMAGE", _WRITTEN.get(name, IMAGE.get(name, "")))
    return fast


def make_text_model(name, tokenizer, **changes):
    """A tiny model of text."""
    kind, extra = TEXT_CONFIGS[name]
    config = getattr(transformers, kind)(
        **{
            **_TEXT,
            **extra,
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": None,
            **changes,
        }
    )
    torch.manual_seed(0)
    return _sharp(transformers.AutoModelForCausalLM.from_config(config), tokenizer)


def save_text_model(folder, name, template=TEMPLATE, **changes):
    tokenizer = make_tokenizer(name, template)
    model = make_text_model(name, tokenizer, **changes)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def save_vision_model(folder, name, **tokenizer):
    """Make a tiny vision-language model and its processor, and save both."""
    tokenizer = make_tokenizer(name, **tokenizer)
    config, processor = _VISION_MAKERS[name](tokenizer)
    torch.manual_seed(0)
    model = _sharp(transformers.AutoModelForImageTextToText.from_config(config), tokenizer)
    model.save_pretrained(Path(folder))
    processor.save_pretrained(Path(folder))
    return str(folder)


def _sharp(model, tokenizer):
    """Fresh weights hardly react to their context; larger ones do."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("mm_input_projection_weight"):
                # Gemma 3 begins blind: zeros.
                parameter.normal_(std=0.3)
            elif parameter.ndim == 2:
                parameter.mul_(8.0 if "embed_tokens" in name else 15.0 if "lm_head" in name else 3.0)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def _text(tokenizer, **changes):
    return {**_TEXT, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **changes}


def _processor(name, tokenizer, image_processor, **arguments):
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
            text |= {"num_experts": 4, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24, **_EXPERTS}
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
        return config, _processor(name, tokenizer, images)

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
    return config, _processor("gemma3", tokenizer, images, image_seq_length=4)


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
    return config, _processor("gemma4", tokenizer, images, image_seq_length=70)


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
    return config, _processor(
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
    return config, _processor(
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
        return config, _processor(name, tokenizer, images, image_seq_len=4)

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
    return config, _processor("internvl", tokenizer, images, image_seq_length=4)


_VISION_MAKERS = {
    **{name: _qwen(name) for name in _QWEN},
    "gemma3": _gemma3,
    "gemma4": _gemma4,
    "llava": _llava,
    "llava_next": _llava_next,
    "idefics3": _idefics("idefics3"),
    "smolvlm": _idefics("smolvlm"),
    "internvl": _internvl,
}
VISION = tuple(_VISION_MAKERS)
