"""Floating-point operations of a model's parts: a product of [m, k] and [k, n] is 2 m k n of them.

Only products of matrices count, attention included, as in ``torch.utils.flop_counter``: the rest is some per cent of
the operations, and is bound by memory.
"""

import functools
from dataclasses import dataclass
from typing import Any

from torch import nn

from ptdpo.train.memory.sizes import ModelSizes, outline_of, text_blocks, vision_blocks

_WINDOW_KINDS = ("fullatt_block_indexes", "window_size")


@dataclass(frozen=True, slots=True)
class ModelWork:
    """What a forward pass multiplies, in numbers of weights and of attention.

    Attributes:
        token: weights that each token of the language model meets, without the head; an adapter's included.
        pair: 4 x layers x heads x width: operations of attention per query and key that are compared.
        head: weights of the head, V x H.
        patch: weights that each patch of an image meets.
        merged: weights that each token of an image meets between the vision tower and the language model.
        patch_pair: as ``pair``, of the layers of the vision tower in which all patches of an image see each other.
        window_pair: likewise of those in which they see a window.
        window: patches of a window.
        merge: patches that become one token.
        trained: share of the weights that meet tokens whose gradient is needed: all, or those of an adapter.
    """

    token: int
    pair: int
    head: int
    patch: int = 0
    merged: int = 0
    patch_pair: int = 0
    window_pair: int = 0
    window: int = 0
    merge: int = 1
    trained: float = 1.0

    def reading(self, tokens: float, pairs: float) -> "Products":
        """Return the operations of a forward pass of the language model without its head."""
        return Products(2.0 * self.token * tokens, self.pair * pairs)

    def scoring(self, targets: float) -> float:
        """Return the operations of one product of so many hidden states with the head."""
        return 2.0 * self.head * targets

    def seeing(self, image: float, images: float = 1) -> "Products":
        """Return the operations of a forward pass of the vision tower.

        Args:
            image: tokens that one image becomes.
            images: how many.
        """
        patches = image * self.merge
        pairs = self.patch_pair * patches**2 + self.window_pair * patches * min(patches, self.window)
        return Products(images * (2.0 * self.patch * patches + 2.0 * self.merged * image), images * pairs)


@dataclass(frozen=True, slots=True)
class Products:
    """Operations of a forward pass: of products with weights, and of attention."""

    weights: float
    attention: float

    def __add__(self, other: "Products") -> "Products":
        return Products(self.weights + other.weights, self.attention + other.attention)

    @property
    def forward(self) -> float:
        """Return both."""
        return self.weights + self.attention

    def both_ways(self, trained: float, *, repeated: bool) -> float:
        """Return the operations of a forward and a backward pass.

        Args:
            trained: share of the weights that get a gradient; their inputs all do.
            repeated: the forward pass is made once more (activation checkpointing).
        """
        # The backward pass of attention makes five products for the two of its forward pass.
        return self.weights * (2 + trained + repeated) + self.attention * (1 + 5 / 2 + repeated)


@functools.lru_cache(maxsize=16)
def work_of(sizes: ModelSizes, rank: int = 0) -> ModelWork:
    """Return the work of a model of these sizes, of which nothing is made but its outline.

    Args:
        sizes: the model's.
        rank: of a LoRA adapter beside every linear layer; 0: none.

    Raises:
        ValueError: if it is a mixture of experts, of which each token meets some only.
    """
    config, text = sizes.config, sizes.text
    if getattr(text, "num_experts", None) or getattr(text, "num_local_experts", None):
        raise ValueError(f"model type {config.model_type!r}: plan does not know how many experts a token meets")
    model = outline_of(config)
    blocks = [_linear(block, rank) for block in text_blocks(model)]
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    every = sum(weights + adapter for weights, adapter in blocks)
    pair = 4 * text.num_hidden_layers * text.num_attention_heads * width
    trained = sum(adapter for _, adapter in blocks) / every if rank else 1.0
    return ModelWork(every, pair, sizes.largest_matrix, **_tower(model, sizes.vision, rank), trained=trained)


def _linear(module: nn.Module, rank: int) -> tuple[int, int]:
    """Return the weights of a module's linear layers, and of an adapter beside them."""
    sizes = [(each.in_features, each.out_features) for each in module.modules() if isinstance(each, nn.Linear)]
    return sum(i * o for i, o in sizes), rank * sum(i + o for i, o in sizes)


def _tower(model: Any, vision: Any, rank: int) -> dict[str, int]:
    """Return the fields of a vision tower of Qwen's kind; nothing for other models."""
    blocks = vision_blocks(model)
    if blocks is None:
        return {}
    inside = sum(sum(_linear(block, rank)) for block in blocks)
    tower = model.base_model.visual
    whole = sum(_linear(tower, rank))
    convolved = sum(each.weight.numel() for each in tower.modules() if isinstance(each, nn.Conv2d | nn.Conv3d))
    size = getattr(vision, "embed_dim", None) or vision.hidden_size
    wide = getattr(vision, _WINDOW_KINDS[0], None)
    seen_whole = len(blocks) if wide is None else len(wide)
    side = getattr(vision, _WINDOW_KINDS[1], 0) // vision.patch_size
    return {
        "patch": inside + convolved,
        "merged": (whole - inside) if whole > inside else 0,
        "patch_pair": 4 * seen_whole * size,
        "window_pair": 4 * (len(blocks) - seen_whole) * size,
        "window": side**2,
        "merge": getattr(vision, "spatial_merge_size", 1) ** 2,
    }
