"""One way to load a processor and a model from a folder or the hub."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedModel,
    Qwen3VLProcessor,
)


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Let an error name the model: the hub's tell of connections, in many lines."""
    try:
        yield
    except OSError as error:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise OSError(f"{path}: no model that can be loaded from a folder here or from the hub ({said})") from error


class ImageOnlyQwen3VLProcessor(Qwen3VLProcessor):
    """Qwen3-VL's processor without its video half, which cannot be imported where torchvision is missing."""

    @classmethod
    def get_attributes(cls) -> list[str]:
        """Return the two parts that exist without torchvision."""
        return ["image_processor", "tokenizer"]


def load_processor(path: str, **kwargs: Any) -> Any:
    """Load the processor saved with a model: left-padded, left as saved otherwise.

    With torchvision installed this is ``AutoProcessor``. Without it, Qwen3-VL checkpoints get a processor
    without the video part; other vision-language models need torchvision.

    Raises:
        ValueError: if torchvision is missing and the checkpoint is not a Qwen3-VL.
        OSError: if there is no such model, or it cannot be reached; names it.
    """
    with _named(path):
        return _load_processor(path, {"padding_side": "left", "truncation_side": "left", **kwargs})


def _load_processor(path: str, kwargs: dict[str, Any]) -> Any:
    if importlib.util.find_spec("torchvision") is not None:
        return AutoProcessor.from_pretrained(path, **kwargs)
    model_type = AutoConfig.from_pretrained(path).model_type
    if model_type != "qwen3_vl":
        raise ValueError(
            f"the processor of {path!r} (model type {model_type!r}) needs torchvision, which is not installed: "
            "pip install torchvision"
        )
    return ImageOnlyQwen3VLProcessor.from_pretrained(path, **kwargs)


def load_model(path: str, *, dtype: torch.dtype | str = "auto", **kwargs: Any) -> PreTrainedModel:
    """Load an image-text-to-text model from a folder or the hub.

    Raises:
        OSError: if there is no such model, or it cannot be reached; names it.
    """
    with _named(path):
        return AutoModelForImageTextToText.from_pretrained(path, dtype=dtype, **kwargs)
