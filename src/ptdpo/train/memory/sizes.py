"""Sizes of a model from its configuration: parameters of the whole and of its parts."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PretrainedConfig

from ptdpo.models.loading import model_config, reads_images

_PUBLISHED = Path(__file__).with_name("published")


@dataclass(frozen=True, slots=True, eq=False)
class ModelSizes:
    """How many parameters a model has, and where. Equal is only what is the same record, so that it can be a key.

    Attributes:
        config: its configuration.
        parameters: of the whole, tied ones once.
        block: of one block of the language model.
        outside: what is in no block of either tower: embeddings, head, norms, the merger of image patches.
        linear: the sizes (inputs, outputs) of all linear layers but the head, which an adapter goes beside.
    """

    config: PretrainedConfig
    parameters: int
    block: int
    outside: int
    linear: tuple[tuple[int, int], ...]

    @property
    def text(self) -> Any:
        """Return the configuration of the language model."""
        return self.config.get_text_config()

    @property
    def vision(self) -> Any:
        """Return the configuration of the vision tower, ``None`` without one."""
        return getattr(self.config, "vision_config", None)

    @property
    def largest_matrix(self) -> int:
        """Return the parameters of the head."""
        return self.text.vocab_size * self.text.hidden_size

    def adapter(self, rank: int) -> int:
        """Return the parameters of a LoRA adapter beside every linear layer."""
        return sum(rank * (inputs + outputs) for inputs, outputs in self.linear)


def published_config(model: str) -> PretrainedConfig | None:
    """Return the configuration of a public model whose sizes are shipped; ``None`` for others.

    Args:
        model: hub id; variants of one size (Thinking, Instruct) share it.
    """
    for path in sorted(_PUBLISHED.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if any(model.startswith(name) for name in content["models"]):
            config = dict(content["config"])
            return AutoConfig.for_model(config.pop("model_type"), **config)
    return None


def config_of(model: str) -> PretrainedConfig:
    """Return a model's configuration: of a folder, of a shipped size, or from the hub.

    Raises:
        OSError: if there is none to be had.
    """
    if not Path(model).is_dir() and (config := published_config(model)) is not None:
        return config
    return model_config(model)


def known_offline(*models: str | None) -> bool:
    """Return whether the configurations of all these models are here, without a network."""
    return all(name is None or Path(name).is_dir() or published_config(name) is not None for name in models)


def sizes_of(config: PretrainedConfig) -> ModelSizes:
    """Return the sizes of a model with this configuration, of which nothing is made but its outline."""
    model = outline_of(config)
    head = model.get_output_embeddings()
    blocks = [*text_blocks(model), *(vision_blocks(model) or ())]
    inside = sum(parameter.numel() for block in blocks for parameter in block.parameters())
    whole = sum(parameter.numel() for parameter in model.parameters())
    linear = tuple(
        (module.in_features, module.out_features)
        for module in model.modules()
        if isinstance(module, nn.Linear) and module is not head
    )
    first = sum(parameter.numel() for parameter in text_blocks(model)[0].parameters())
    return ModelSizes(config, whole, first, whole - inside, linear)


def outline_of(config: PretrainedConfig) -> Any:
    """Return a model of this configuration without weights."""
    kind = AutoModelForImageTextToText if reads_images(config) else AutoModelForCausalLM
    with torch.device("meta"):
        return kind.from_config(config)


def text_blocks(model: Any) -> nn.ModuleList:
    """Return the blocks of the language model."""
    return model.get_decoder().layers


def vision_blocks(model: Any) -> nn.ModuleList | None:
    """Return the blocks of a vision tower of Qwen's kind; ``None`` if there is none, or it is another."""
    tower = getattr(model.base_model, "visual", None)
    return getattr(tower, "blocks", None)
