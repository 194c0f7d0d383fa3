"""Rollouts that a checkpoint inside a generation still owes to training: written with it, read back to the last bit.

Tensors go to a safetensors file, everything around them (lists, mappings, frozen records of ptdpo) to its header as
JSON. Nothing is pickled, so nothing is executed when it is read.
"""

import dataclasses
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_TREE = "tree"
_PLAIN = (str, int, float, bool, type(None))


def buffer_file(folder: Path, process: int) -> Path:
    """Return where the rollouts of a process lie in a checkpoint."""
    return folder / f"rollouts_{process}.safetensors"


def write_buffer(path: Path, content: object) -> None:
    """Write nested lists, tuples, mappings and records of tensors and plain values.

    Raises:
        ValueError: if something else is in it.
        OSError: if the file cannot be written.
    """
    tensors = _Tensors()
    tree = _packed(content, tensors)
    save_file(tensors.named, path, metadata={_TREE: json.dumps(tree)})


def read_buffer(path: Path, device: str | torch.device = "cpu") -> Any:
    """Return what ``write_buffer`` wrote, its tensors on the device that each was on, or on ``device``.

    Raises:
        ValueError: if the file is not one.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tree = json.loads(file.metadata()[_TREE])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: the rollouts of the checkpoint cannot be read ({error})") from error
    return _unpacked(tree, tensors, torch.device(device))


class _Tensors:
    """Tensors by name; one that stands in several places is kept once."""

    def __init__(self) -> None:
        self.named: dict[str, Tensor] = {}
        self._names: dict[int, str] = {}

    def name_of(self, tensor: Tensor) -> str:
        if id(tensor) not in self._names:
            self._names[id(tensor)] = str(len(self.named))
            # Parts of one storage, as the micro-batches of a generation are, are refused by safetensors.
            self.named[self._names[id(tensor)]] = tensor.detach().cpu().clone().contiguous()
        return self._names[id(tensor)]


def _packed(value: object, tensors: _Tensors) -> Any:
    if isinstance(value, Tensor):
        return {"tensor": tensors.name_of(value), "cpu": value.device.type == "cpu"}
    if isinstance(value, _PLAIN):
        return {"value": value}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_packed(part, tensors) for part in value]}
    if isinstance(value, Mapping):
        return {"dict": [[_packed(key, tensors), _packed(part, tensors)] for key, part in value.items()]}
    kind = type(value)
    if dataclasses.is_dataclass(value) and kind.__module__.startswith("ptdpo."):
        parts = {f.name: _packed(getattr(value, f.name), tensors) for f in dataclasses.fields(value)}
        return {"record": [kind.__module__, kind.__qualname__], "fields": parts}
    raise ValueError(f"rollouts hold a {kind.__name__}, which a checkpoint cannot")


def _unpacked(tree: Any, tensors: Mapping[str, Tensor], device: torch.device) -> Any:
    if "tensor" in tree:
        return tensors[tree["tensor"]].to("cpu" if tree["cpu"] else device)
    if "value" in tree:
        return tree["value"]
    if "dict" in tree:
        return {_unpacked(k, tensors, device): _unpacked(part, tensors, device) for k, part in tree["dict"]}
    if "record" in tree:
        fields = {name: _unpacked(part, tensors, device) for name, part in tree["fields"].items()}
        return _record(*tree["record"])(**fields)
    kind = list if "list" in tree else tuple
    return kind(_unpacked(part, tensors, device) for part in tree[kind.__name__])


def _record(module: str, name: str) -> type:
    """Return a record of ptdpo by name; no other class is ever called."""
    kind = getattr(importlib.import_module(module), name, None) if module.startswith("ptdpo.") else None
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise ValueError(f"rollouts of a checkpoint name {module}.{name}, which is no record of ptdpo")
    return kind
