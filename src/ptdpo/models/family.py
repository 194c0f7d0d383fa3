"""Families of models: what their inputs mean, and what of a prompt can be shared. The one place to add a family.

A family is a record: which tensors hold images and how those belong to rows, which tokens of the prompt stand for
images, how positions are counted, and whether a packed row (``ptdpo.models.shared_prefix``) is known to fit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

PIXELS = "pixel_values"
TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")
_TEXT_INPUTS = frozenset({"input_ids", "attention_mask", *TOKEN_TYPES})

# How image tensors belong to the rows of a batch:
# grid: an image is as many entries of the pixels as its line of the grid multiplies to (Qwen);
# units: an entry is an image, or a tile of one, and each takes equally many tokens (Gemma 3, InternVL);
# rows: each row of the batch has one entry, padded to the row with the most images (Idefics 3);
# other: not known here.
ImageLayout = Literal["none", "grid", "units", "rows", "other"]


@dataclass(frozen=True, slots=True)
class Family:
    """What ptdpo knows of some model types.

    Attributes:
        model_types: as their configurations name them.
        layout: how image tensors belong to rows.
        image_fields: names of the image tensors, the pixels first.
        positions: ``count``: tokens of the prompt are counted; ``model``: the model's own ``get_rope_index`` says.
        image_blocks: the tokens of an image see each other, as ``token_type_ids`` tell, not only what came before.
        not_shared: why a packed row does not fit; ``None``: it does, which tests show.
        own_text: the language model has no record of its own: this one speaks for it.
    """

    model_types: tuple[str, ...]
    layout: ImageLayout = "none"
    image_fields: tuple[str, ...] = ()
    positions: Literal["count", "model"] = "count"
    image_blocks: bool = False
    not_shared: str | None = None
    own_text: bool = True

    @property
    def inputs(self) -> frozenset[str]:
        """Return the names of what such a model reads: ids, masks, token types and images."""
        return _TEXT_INPUTS | frozenset(self.image_fields)


FAMILIES = (
    Family(
        ("llama", "qwen2", "qwen3", "qwen3_moe", "mistral", "mixtral", "gemma", "gemma3_text", "phi", "phi3"),
    ),
    Family(
        ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"),
        layout="grid",
        image_fields=(PIXELS, "image_grid_thw"),
        positions="model",
    ),
    Family(
        ("qwen3_5", "qwen3_5_moe"),
        layout="grid",
        image_fields=(PIXELS, "image_grid_thw"),
        positions="model",
        not_shared="its linear attention carries one state from token to token, which responses would hand on",
    ),
    Family(("gemma3",), layout="units", image_fields=(PIXELS,), image_blocks=True, own_text=False),
    Family(
        ("gemma4",),
        layout="other",
        image_fields=(PIXELS, "image_position_ids"),
        image_blocks=True,
        not_shared="its layers share keys, and how many tokens an image takes depends on its size",
    ),
    Family(
        ("llava_next",),
        layout="other",
        image_fields=(PIXELS, "image_sizes"),
        not_shared="how many tokens an image takes depends on its size in ways that only the model knows",
        own_text=False,
    ),
    Family(("idefics3", "smolvlm"), layout="rows", image_fields=(PIXELS, "pixel_attention_mask"), own_text=False),
    Family(("internvl",), layout="units", image_fields=(PIXELS,), own_text=False),
)

_BY_TYPE = {model_type: family for family in FAMILIES for model_type in family.model_types}
# Families whose expanded prompts hold one unbroken run of image tokens for each image, recorded above or not.
RUNS_OF_IMAGE_TOKENS = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "llava", "llava_next")
# Every tensor that holds images in some family, also of those that have no record.
IMAGE_FIELDS = (
    *dict.fromkeys(name for family in FAMILIES for name in family.image_fields),
    "spatial_shapes",
)
SHARED_TYPES = tuple(name for family in FAMILIES if family.not_shared is None for name in family.model_types)


def family_of(config: PretrainedConfig) -> Family:
    """Return the record of a model's family; of one that is not known, a record that shares nothing."""
    model_type = config.model_type
    reason = f"model type {model_type!r} is not among {', '.join(SHARED_TYPES)}"
    return _BY_TYPE.get(model_type) or Family((model_type,), "other", IMAGE_FIELDS, not_shared=reason)


def why_not_shared(config: PretrainedConfig) -> str | None:
    """Return why prompts of such a model cannot be shared in a packed row; ``None`` if they can."""
    family, text = family_of(config), config.get_text_config()
    if family.not_shared is not None:
        return family.not_shared
    if not family.own_text and family_of(text).not_shared is not None:
        return f"its language model: {family_of(text).not_shared}"
    kinds = {kind for kind in _rope_types(getattr(text, "rope_parameters", None)) if kind in ("dynamic", "longrope")}
    if kinds:
        return f"its rotary frequencies depend on the length of a row (rope_type {min(kinds)!r})"
    return None


def _rope_types(parameters: Any) -> list[Any]:
    """Return the kinds of rotary embedding of a configuration, which may have one per type of layer."""
    if not isinstance(parameters, dict):
        return []
    nested = [kind for value in parameters.values() for kind in _rope_types(value)]
    return [parameters.get("rope_type"), *nested]


def without_empty_images(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return model inputs without image tensors that hold no image: vision towers refuse those.

    A text-only slice of a batch that has images elsewhere carries such tensors: of no entry, or all padding.
    """
    pixels = inputs.get(PIXELS)
    if pixels is None or (pixels.size(0) and (pixels.ndim < 5 or bool(pixels.any()))):
        return inputs
    return {name: value for name, value in inputs.items() if name not in IMAGE_FIELDS}


def image_entries(
    family: Family, config: PretrainedConfig, inputs: dict[str, Tensor], prompts: Tensor
) -> list[dict[str, slice]]:
    """Return for each row of a batch which entries of each image tensor are its own.

    Args:
        family: the model's.
        config: the model's.
        inputs: the batch.
        prompts: [B, P] ids.

    Raises:
        ValueError: if the image tokens of the prompts do not fit the image tensors.
    """
    if PIXELS not in inputs:
        return [{} for _ in prompts]
    names = [name for name in family.image_fields if name in inputs]
    if family.layout == "rows":
        return [{name: slice(row, row + 1) for name in names} for row in range(len(prompts))]
    tokens = (prompts == image_token(config)).sum(dim=-1).tolist()
    if family.layout == "grid":
        merged = config.vision_config.spatial_merge_size**2  # type: ignore[attr-defined]
        entries = inputs["image_grid_thw"].prod(dim=-1).tolist()
        images = _consumed(tokens, [count // merged for count in entries])
        ends = torch.tensor([0, *entries]).cumsum(0).tolist()
        return [{PIXELS: slice(ends[own.start], ends[own.stop]), "image_grid_thw": own} for own in images]
    assert family.layout == "units", family.layout
    units, total = inputs[PIXELS].size(0), sum(tokens)
    if not units:
        return [dict.fromkeys(names, slice(0, 0)) for _ in tokens]
    if total % units:
        raise ValueError(f"{total} image tokens in the prompts of a batch do not fit {units} images or tiles")
    return [dict.fromkeys(names, own) for own in _consumed(tokens, [total // units] * units)]


def _consumed(wanted: Sequence[int], sizes: Sequence[int]) -> list[slice]:
    """Return for each row the images, in order, whose sizes add up to the tokens that it holds."""
    found, image = [], 0
    for tokens in wanted:
        first = image
        while tokens > 0 and image < len(sizes):
            tokens, image = tokens - sizes[image], image + 1
        if tokens:
            raise ValueError("the image tokens of a prompt do not fit the sizes of its images")
        found.append(slice(first, image))
    return found


def image_token(config: PretrainedConfig) -> int | None:
    """Return the id that stands for a piece of an image, ``None`` for a model of text."""
    return getattr(config, "image_token_id", None)


def own_positions(model: PreTrainedModel, prompts: Tensor, kept: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return the positions [3, rows, P] that a model's own ``get_rope_index`` gives the tokens of some prompts.

    Args:
        model: of a family with ``positions="model"``.
        prompts: [rows, P] ids.
        kept: [rows, P], 0 at padding.
        inputs: token types and image inputs of these rows, by the names that the model gives them.
    """
    kinds = inputs.get("mm_token_type_ids")
    if kinds is None:
        kinds = (prompts == image_token(model.config)).long()
    positions, _ = model.base_model.get_rope_index(  # type: ignore[operator]
        prompts, mm_token_type_ids=kinds, image_grid_thw=inputs.get("image_grid_thw"), attention_mask=kept
    )
    return positions


def hand_on_offsets(model: PreTrainedModel, prompt_of: Tensor) -> None:
    """Give each row of a batch the offset that its prompt has left in a model which counts positions from offsets.

    Args:
        model: has just read some prompts.
        prompt_of: [rows], the number of each row's prompt.
    """
    offsets = getattr(model.base_model, "rope_deltas", None)
    if offsets is not None:
        model.base_model.rope_deltas = offsets[prompt_of]
