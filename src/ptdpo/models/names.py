"""What names a model: a folder with a configuration and weights, or an id of the hub."""

import re
from pathlib import Path

# The names by which transformers finds weights in a folder, whole or in shards; others lie beside a model.
_WEIGHTS = re.compile(r"(model|pytorch_model)\b.*\.(safetensors|bin)|.*\.gguf")


def is_hub_id(name: str) -> bool:
    """Return whether a name may be that of a model on the hub: owner/name."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None


def has_weights(folder: Path) -> bool:
    """Return whether a folder holds the weights of a whole model."""
    return any(_WEIGHTS.fullmatch(file.name) for file in folder.iterdir())
