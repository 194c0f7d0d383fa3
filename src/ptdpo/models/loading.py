"""One way to load a processor and a model from a folder or the hub."""

import functools
import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3VLProcessor,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from ptdpo.models.adapters import attached, merged, read_adapter
from ptdpo.models.names import has_weights, is_hub_id

# What says where files come from, which every part of a model needs alike.
_ORIGIN = ("revision", "trust_remote_code", "token", "cache_dir", "local_files_only", "subfolder")
_PARTS = ("image_processor", "tokenizer")
_LONGEST = 300


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Let an error name the model: the hub's tell of connections, in many lines."""
    try:
        yield
    except OSError as error:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise OSError(f"{path}: no model that can be loaded from a folder here or from the hub ({said})") from error


# As transformers and torch say that what is in a file is no weights, or not those of this model.
_OTHER_SIZES = "ignore_mismatched_sizes"
_NO_WEIGHTS = (_OTHER_SIZES, "PytorchStreamReader", "state_dict", "size mismatch", "Invalid magic number")


@contextmanager
def reading_weights(path: str) -> Iterator[None]:
    """Let an error name the model whose weights cannot be read: cut off, of other sizes, or pickles that would run.

    Raises:
        ValueError: in the place of what the libraries raise, in one line.
    """
    try:
        yield
    except (SafetensorError, UnpicklingError, EOFError, RuntimeError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, RuntimeError) and not any(word in said for word in _NO_WEIGHTS):
            raise
        if _OTHER_SIZES in said:
            said = "their sizes are not those that its config.json says"
        if isinstance(error, UnpicklingError):
            # torch's message goes on with how to run what is in the file.
            said = f"a pickle of more than weights, which is not run: {said.partition('. ')[0]}"
        raise ValueError(f"{path}: its weights cannot be read ({said[:_LONGEST]})") from error


class _NoVideo:
    """Stands where a processor would ask its video half for a setting."""

    num_frames = fps = None


@functools.cache
def image_only(processor: Any) -> Any:
    """Return a processor class without its video half, which cannot be imported where torchvision is missing.

    What the class saves is a processor of its family.

    Raises:
        ValueError: if the processor takes other parts than images, text and videos.
    """
    names = processor.get_attributes()
    if names[: len(_PARTS)] != [*_PARTS] or set(names) - {*_PARTS, "video_processor"}:
        raise ValueError(
            f"a {processor.__name__} ({', '.join(names)}) needs torchvision, which is not installed: "
            "pip install torchvision"
        )

    def parts(cls: Any) -> list[str]:
        return [*_PARTS]

    def from_args_and_dict(cls: Any, args: Any, processor_dict: Any, **kwargs: Any) -> Any:
        given = [*args, *[None] * (len(names) - len(_PARTS))]
        return super(reader, cls).from_args_and_dict(given, processor_dict, **kwargs)

    body = {"get_attributes": parts, "from_args_and_dict": from_args_and_dict}
    members: dict[str, Any] = {name: classmethod(method) for name, method in body.items()}
    reader: Any = type(processor.__name__, (processor,), {**members, "video_processor": _NoVideo()})
    return reader


ImageOnlyQwen3VLProcessor = image_only(Qwen3VLProcessor)


def load_processor(path: str, **kwargs: Any) -> Any:
    """Load the processor saved with a model, or the tokenizer of a model of text: left-padded, else as saved.

    That of an adapter is the one saved with it, or its base's.

    With torchvision installed this is ``AutoProcessor``. Without it, or if it was saved so, vision-language models get
    their processor without its video part. A tokenizer without a padding token pads with the token that ends a
    response, as TRL does.

    Raises:
        ValueError: if torchvision is missing and the processor cannot do without it.
        OSError: if there is no such model, or it cannot be reached; names it.
    """
    with _named(path):
        return _load_processor(path, {"padding_side": "left", "truncation_side": "left", **kwargs})


def _load_processor(path: str, kwargs: dict[str, Any]) -> Any:
    adapter = read_adapter(path)
    if adapter is not None and not adapter.has_processor:
        return _load_processor(adapter.base, {**kwargs, **adapter.origin})
    config = model_config(path, **{name: kwargs[name] for name in _ORIGIN if name in kwargs})
    named = PROCESSOR_MAPPING_NAMES.get(config.model_type)
    has_torchvision = importlib.util.find_spec("torchvision") is not None
    if named is None or (has_torchvision and not _saved_without_video(Path(path))):
        loaded = AutoProcessor.from_pretrained(path, **kwargs)
    else:
        loaded: Any = image_only(getattr(transformers, named)).from_pretrained(path, **kwargs)
    tokenizer = tokenizer_of(loaded)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return loaded


def _saved_without_video(folder: Path) -> bool:
    """Return whether a processor was saved where torchvision is missing: ``AutoProcessor`` would ask for the rest."""
    if not (folder / "processor_config.json").is_file():
        return False
    if any((folder / name).exists() for name in ("video_preprocessor_config.json", "preprocessor_config.json")):
        return False
    return "video_processor" not in json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))


def tokenizer_of(processor: Any) -> Any:
    """Return the tokenizer of a processor; a tokenizer is its own."""
    return getattr(processor, "tokenizer", processor)


def model_config(path: str, **kwargs: Any) -> PretrainedConfig:
    """Return the configuration of a model in a folder or on the hub; of an adapter, its base's.

    Raises:
        ValueError, OSError: if there is none.
    """
    adapter = read_adapter(path)
    if adapter is not None:
        return model_config(adapter.base, **{**kwargs, **adapter.origin})
    return AutoConfig.from_pretrained(path, **kwargs)


def load_model(path: str, *, dtype: torch.dtype | str = "auto", attach: bool = False, **kwargs: Any) -> PreTrainedModel:
    """Load a model that reads text and images, or text alone, from a folder or the hub.

    The folder may be that of an adapter: its base is loaded and the adapter merged into it.

    Args:
        path: folder or hub id.
        dtype: of the weights; that of the saved ones by default.
        attach: leave an adapter beside the weights, where nothing is rounded to their type.
        **kwargs: as for ``from_pretrained``.

    Raises:
        ValueError: if an adapter is incomplete or does not fit its base, or weights cannot be read; nothing is run.
        OSError: if there is no such model, or it cannot be reached; names it.
    """
    adapter = read_adapter(path)
    if adapter is not None:
        base = load_model(adapter.base, dtype=dtype, **{**kwargs, **adapter.origin})
        with reading_weights(path):
            return attached(base, adapter) if attach else merged(base, adapter)
    with _named(path), reading_weights(path):
        config = AutoConfig.from_pretrained(path, **{name: kwargs[name] for name in _ORIGIN if name in kwargs})
        kind = AutoModelForImageTextToText if reads_images(config) else AutoModelForCausalLM
        return kind.from_pretrained(path, dtype=dtype, **kwargs)


def reads_images(config: PretrainedConfig) -> bool:
    """Return whether a model with this configuration reads images beside text."""
    return type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING


def check_model(name: str, setting: str = "model") -> None:
    """Refuse what is no model before work begins; nothing is loaded, and a hub id is taken at its word.

    Args:
        name: folder of a model or of an adapter, or hub id (owner/name).
        setting: whose value it is, for the message.

    Raises:
        ValueError: if it is neither, or the folder holds no whole model; says what it holds.
    """
    folder = Path(name)
    if not folder.is_dir():
        if is_hub_id(name) and not folder.exists():
            return
        raise ValueError(
            f"{setting}={name!r}: neither a folder here nor a hub id: there is no such folder, and the id of a model "
            "on the hub is owner/name"
        )
    adapter = read_adapter(name)
    if adapter is not None:
        check_model(adapter.base, f"{setting}={name!r} is an adapter, and its base")
        return
    missing = "configuration (config.json)" if not (folder / "config.json").is_file() else "weights"
    if missing == "weights" and has_weights(folder):
        return
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda path: (len(path.name), path.name))
    advice = f"; it holds checkpoints: {checkpoints[-1]} is the newest" if checkpoints else ""
    raise ValueError(f"{setting}={name!r}: a folder without a model's {missing}{advice}")
