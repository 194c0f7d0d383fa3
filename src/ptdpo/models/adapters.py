"""Folders that hold a LoRA adapter, as training with ``lora`` leaves them, and the model that one adapts.

A folder with ``adapter_config.json`` is an adapter. Its base, named there, may be a folder, another adapter or a model
of the hub.
"""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME
from transformers import PreTrainedModel

from ptdpo.models.names import has_weights

_ADAPTER_WEIGHTS = (SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME)
# Any of these says that a processor was saved.
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter in a folder.

    Attributes:
        folder: where it lies.
        base: folder or hub id of the model that it adapts.
        base_revision: of a hub model, if the adapter names one.
    """

    folder: Path
    base: str
    base_revision: str | None

    @property
    def origin(self) -> dict[str, Any]:
        """Return the arguments that load the base as it was."""
        return {} if self.base_revision is None else {"revision": self.base_revision}

    @property
    def has_processor(self) -> bool:
        """Return whether a processor was saved with it."""
        return any((self.folder / name).is_file() for name in _PROCESSOR_FILES)


def read_adapter(path: str | Path) -> Adapter | None:
    """Return the adapter in a folder, ``None`` if the path is no adapter's.

    A base that is not where it was is looked for by its name inside the folder and beside it: folders are moved whole.

    Raises:
        ValueError: if its configuration cannot be read or names no base, its weights are missing, or those of a whole
            model lie beside it.
    """
    folder = Path(path)
    file = folder / CONFIG_NAME
    if not file.is_file():
        return None
    if has_weights(folder):
        raise ValueError(f"{folder}: holds an adapter and the weights of a whole model: which is meant? move one away")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        base = config.get("base_model_name_or_path")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{file}: not the configuration of an adapter ({error})") from error
    if not base:
        raise ValueError(f"{file}: names no base (base_model_name_or_path): write there which model it adapts")
    if not any((folder / name).is_file() for name in _ADAPTER_WEIGHTS):
        raise ValueError(f"{folder}: has {CONFIG_NAME} but no {SAFETENSORS_WEIGHTS_NAME}: its saving was cut off")
    moved = [place / Path(base).name for place in (folder, folder.parent)]
    found = base if Path(base).is_dir() else next((str(place) for place in moved if place.is_dir()), base)
    return Adapter(folder, found, config.get("revision"))


def refuse_adapter(name: str, setting: str) -> None:
    """Refuse an adapter where a whole model is loaded by its path.

    Raises:
        ValueError: naming the setting, and how to make a model of it.
    """
    if read_adapter(name) is not None:
        raise ValueError(
            f"{setting}={name!r}: an adapter, and a whole model is needed here: ptdpo merge {name} --out FOLDER "
            "makes one"
        )


def attached(base: PreTrainedModel, adapter: Adapter) -> Any:
    """Return the model with the adapter beside its weights, computed as in training.

    Raises:
        ValueError: if the adapter does not fit the base.
    """
    unfit = f"{adapter.folder}: the adapter does not fit its base {adapter.base}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: Any = PeftModel.from_pretrained(base, str(adapter.folder))
            # Weights without a place in the base, and places without weights: PEFT goes on without them.
            found = model.load_adapter(str(adapter.folder), model.active_adapter)
    except (RuntimeError, ValueError, KeyError) as error:
        raise ValueError(f"{unfit} ({' '.join(str(error).split())[:300]})") from error
    lost = [*found.missing_keys, *found.unexpected_keys]
    if lost:
        raise ValueError(f"{unfit} ({len(lost)} weights without their counterpart, the first is {lost[0]})")
    return model


def merged(base: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    """Return the model with the adapter added to its weights: W + B A alpha / r, rounded to the type of W.

    It bears the adapter's folder as its name: an adapter trained on top of it names that as its base.

    Raises:
        ValueError: if the adapter does not fit the base.
    """
    model = attached(base, adapter).merge_and_unload()
    model.name_or_path = model.config._name_or_path = str(adapter.folder)
    return model
