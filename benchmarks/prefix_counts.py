"""What a shared prefix can save for the real sizes of Qwen3-VL: multiply-adds of a group's scoring, counted.

Counted, not measured: forward and backward of one group, for prompts of one image and 64 tokens of text. Linear layers
count three times their forward pass, attention and the fused head more, because they compute the forward pass again.
Run: python benchmarks/prefix_counts.py
"""

from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

LINEAR, ATTENTION, HEAD = 3.0, 3.5, 4.0
GROUP, TEXT = 8, 64
HEADS = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936}
# The published sizes of the language model and of the vision tower.
SIZES = {
    "2B": (
        {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16, **HEADS},
        {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "out_hidden_size": 2048},
    ),
    "4B": (
        {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32, **HEADS},
        {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "out_hidden_size": 2560},
    ),
    "8B": (
        {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32, **HEADS},
        {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "out_hidden_size": 4096},
    ),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Multiply-adds of a forward pass: of a token, per token it looks at, of an image, of a target in the head."""

    token: float
    look: float
    image: float
    target: float


def linear(module: nn.Module) -> int:
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear))


def cost(size: str, visual: int) -> Cost:
    """An image of ``visual`` tokens has four patches for each of them, which look at one another."""
    text, vision = SIZES[size]
    with torch.device("meta"):
        config = Qwen3VLConfig(text_config=text, vision_config=vision)
        model = Qwen3VLForConditionalGeneration(config)
    tower, patches = model.model.visual, 4 * visual
    mergers = linear(tower.merger) + linear(tower.deepstack_merger_list)
    looks = 2 * patches**2 * vision["hidden_size"] * vision["depth"]
    return Cost(
        token=LINEAR * linear(model.model.language_model),
        look=ATTENTION * 2 * text["num_attention_heads"] * text["head_dim"] * text["num_hidden_layers"],
        image=LINEAR * (patches * linear(tower.blocks) + visual * mergers) + ATTENTION * looks,
        target=HEAD * linear(model.lm_head),
    )


def saving(cost: Cost, prompt: int, response: int) -> float:
    """Plain layout over shared layout."""
    own = response * (prompt + response / 2)
    once = prompt * cost.token + prompt**2 / 2 * cost.look + cost.image
    each = response * (cost.token + cost.target) + own * cost.look
    return GROUP * (once + each) / (once + GROUP * each)


def main() -> None:
    table = Table("Qwen3-VL", "prompt (visual)", "1 : 4", "1 : 1", "4 : 1")
    for size in SIZES:
        for visual in (64, 256, 1024, 2048):
            prompt, costs = visual + TEXT, cost(size, visual)
            ratios = [f"{saving(costs, prompt, round(prompt * ratio)):.2f}" for ratio in (4.0, 1.0, 0.25)]
            table.add_row(size, f"{prompt} ({visual})", *ratios)
    Console().print(table)


if __name__ == "__main__":
    main()
