"""A tiny model of every family, with its real architecture and its real processor, made on the spot."""

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.tiny_vision import EXPERTS, TEXT, VISION_MAKERS

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
TEXT_CONFIGS = {
    "llama": ("LlamaConfig", {}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {}),
    "mistral": ("MistralConfig", {"sliding_window": 6}),
    "gemma": ("GemmaConfig", {}),
    "gemma3_text": ("Gemma3TextConfig", {"sliding_window": 6, "query_pre_attn_scalar": 8}),
    "phi": ("PhiConfig", {}),
    "phi3": ("Phi3Config", {"sliding_window": 6}),
    "qwen3_moe": ("Qwen3MoeConfig", {"num_experts": 4, "moe_intermediate_size": 24, **EXPERTS}),
    "mixtral": ("MixtralConfig", {"num_local_experts": 4, **EXPERTS}),
    "gpt_oss": ("GptOssConfig", {"num_local_experts": 4, "sliding_window": 128, **EXPERTS}),
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
            **TEXT,
            **extra,
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": None,
            **changes,
        }
    )
    torch.manual_seed(0)
    return sharp(transformers.AutoModelForCausalLM.from_config(config), tokenizer)


def save_text_model(folder, name, template=TEMPLATE, **changes):
    tokenizer = make_tokenizer(name, template)
    model = make_text_model(name, tokenizer, **changes)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def save_vision_model(folder, name, **tokenizer):
    """Make a tiny vision-language model and its processor, and save both."""
    tokenizer = make_tokenizer(name, **tokenizer)
    config, processor = VISION_MAKERS[name](tokenizer)
    torch.manual_seed(0)
    model = sharp(transformers.AutoModelForImageTextToText.from_config(config), tokenizer)
    model.save_pretrained(Path(folder))
    processor.save_pretrained(Path(folder))
    return str(folder)


def sharp(model, tokenizer):
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


VISION = tuple(VISION_MAKERS)
