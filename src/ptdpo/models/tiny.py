"""A real Qwen3-VL and a real Qwen3 small enough for a laptop: architecture, processor, chat template, tokenizer."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from ptdpo.models.loading import ImageOnlyQwen3VLProcessor
from ptdpo.models.saving import saving

# As in Qwen's vocabulary: vision and turn markers are special tokens, <think> is an ordinary added token, so
# that decoding with skip_special_tokens keeps the reasoning and drops the markers.
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
ADDED_TOKENS = ("<think>", "</think>")

# A thinking model's template: the opening <think> belongs to the prompt.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}
<|vision_start|><|image_pad|><|vision_end|>
{%- else -%}
{{ part.text }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
<think>
{%- endif -%}
"""


@dataclass(frozen=True, slots=True)
class TinyVLMSettings:
    """Sizes of the tiny model; the defaults give about 0.6 M parameters and one visual token per 16 x 16 px.

    ``vocabulary`` is an upper bound: the tokenizer stops earlier when the text has no more pairs to merge.
    """

    hidden: int = 96
    layers: int = 3
    heads: int = 4
    key_value_heads: int = 2
    vision_hidden: int = 64
    vision_layers: int = 1
    vision_heads: int = 4
    patch: int = 8
    vocabulary: int = 450
    max_positions: int = 2048
    place_std: float = 1.0
    seed: int = 0


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on ``texts``; digits stay single tokens, as in Qwen's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=[t for t in SPECIAL_TOKENS if t not in ("<|im_end|>", "<|endoftext|>")],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    fast.add_tokens(list(ADDED_TOKENS))
    return fast


def make_tiny_vlm(folder: str | Path, texts: Iterable[str], settings: TinyVLMSettings | None = None) -> Path:
    """Make a tiny Qwen3-VL with its processor, save both to ``folder``, and return the folder.

    The weights depend only on ``settings`` and the size of the vocabulary; the global random state of torch is
    left as it was.

    Args:
        folder: where to save; reload with ``load_model`` and ``load_processor``.
        texts: what the tokenizer is trained on.
        settings: sizes and seed.
    """
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    settings = settings or TinyVLMSettings()
    tokenizer = train_tokenizer(texts, settings.vocabulary)
    visual_token = settings.patch * 2
    image_processor = Qwen2VLImageProcessorPil(
        patch_size=settings.patch,
        merge_size=2,
        temporal_patch_size=2,
        size={"shortest_edge": visual_token**2, "longest_edge": 64 * visual_token**2},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    processor = ImageOnlyQwen3VLProcessor(
        image_processor=image_processor, tokenizer=tokenizer, chat_template=CHAT_TEMPLATE
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = Qwen3VLForConditionalGeneration(_config(settings, tokenizer))
        # At the default 0.02 the content of a patch drowns its place, and a tiny model takes long to look anywhere.
        torch.nn.init.normal_(model.model.visual.pos_embed.weight, std=settings.place_std)
    return _save(model, processor, tokenizer, Path(folder))


def make_tiny_lm(folder: str | Path, texts: Iterable[str], settings: TinyVLMSettings | None = None) -> Path:
    """Make a tiny Qwen3, a model of text, with its tokenizer, save both to ``folder``, and return the folder.

    It is the language model of ``make_tiny_vlm``: the sizes for vision are not used.

    Args:
        folder: where to save; reload with ``load_model`` and ``load_processor``.
        texts: what the tokenizer is trained on.
        settings: sizes and seed.
    """
    settings = settings or TinyVLMSettings()
    tokenizer = train_tokenizer(texts, settings.vocabulary)
    tokenizer.chat_template = CHAT_TEMPLATE
    config = Qwen3Config(
        **_sizes(settings, tokenizer),
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = Qwen3ForCausalLM(config)
    return _save(model, tokenizer, tokenizer, Path(folder))


def _save(model: PreTrainedModel, processor: Any, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    assert model.generation_config is not None
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    with saving(folder):
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder


def _sizes(settings: TinyVLMSettings, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Return the sizes of the language model."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": settings.hidden,
        "intermediate_size": 3 * settings.hidden,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.key_value_heads,
        "head_dim": settings.hidden // settings.heads,
        "max_position_embeddings": settings.max_positions,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _config(settings: TinyVLMSettings, tokenizer: PreTrainedTokenizerFast) -> Qwen3VLConfig:
    half = settings.hidden // settings.heads // 2
    height = width = half // 3
    return Qwen3VLConfig(
        text_config={
            **_sizes(settings, tokenizer),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [half - height - width, height, width],
            },
        },
        vision_config={
            "depth": settings.vision_layers,
            "hidden_size": settings.vision_hidden,
            "intermediate_size": 2 * settings.vision_hidden,
            "num_heads": settings.vision_heads,
            "patch_size": settings.patch,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": settings.hidden,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [settings.vision_layers - 1],
        },
        image_token_id=_token_id(tokenizer, "<|image_pad|>"),
        video_token_id=_token_id(tokenizer, "<|video_pad|>"),
        vision_start_token_id=_token_id(tokenizer, "<|vision_start|>"),
        vision_end_token_id=_token_id(tokenizer, "<|vision_end|>"),
        tie_word_embeddings=True,
    )


def _token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    found = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(found, int)
    return found
