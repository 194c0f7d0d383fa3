"""A checkpoint of one layout as another reads it: the same numbers in other files.

plain: one process or DDP; weights, and an optimiser state by places in the optimiser's groups. fsdp
(``FULL_STATE_DICT``): the weights once more in a file of its own, tied ones under every name, and an optimiser state by
names of parameters. shards (FSDP with ``SHARDED_STATE_DICT``): the same two, each in a folder of torch's distributed
checkpoints. DeepSpeed's own files are read by DeepSpeed alone.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save, torch_save_to_dcp

WEIGHTS = "model.safetensors"
FSDP_WEIGHTS = "pytorch_model_fsdp.bin"
OPTIMISER = "optimizer.pt"
FSDP_OPTIMISER = "optimizer.bin"
SHARDED_WEIGHTS = "pytorch_model_fsdp_0"
SHARDED_OPTIMISER = "optimizer_0"

State = dict[str, Any]
Form = Literal["plain", "fsdp", "shards", "deepspeed"]
_OPTIMISERS: Mapping[Form, str] = {"plain": OPTIMISER, "fsdp": FSDP_OPTIMISER, "shards": SHARDED_OPTIMISER}


def form_of(checkpoint: Path) -> Form | None:
    """Return in which form a checkpoint was written; ``None``: in none from which a run can go on."""
    if (checkpoint / SHARDED_WEIGHTS).is_dir():
        return "shards"
    if any(checkpoint.glob("global_step*")):
        return "deepspeed"
    if not (checkpoint / WEIGHTS).is_file():
        return None
    if (checkpoint / FSDP_WEIGHTS).is_file():
        return "fsdp"
    return "plain" if (checkpoint / OPTIMISER).is_file() else None


def needs_conversion(checkpoint: Path, to: Form) -> bool:
    """Return whether a checkpoint was written in another form than the one that is read, and can be converted."""
    form = form_of(checkpoint)
    return form is not None and form != to and "deepspeed" not in (form, to)


def check_form(checkpoint: Path, to: Form) -> None:
    """Refuse a checkpoint that a layout cannot read, nor be converted for it.

    Raises:
        ValueError: if one of them is DeepSpeed's and the other is not.
    """
    form = form_of(checkpoint)
    if form is not None and form != to and "deepspeed" in (form, to):
        written = "DeepSpeed" if form == "deepspeed" else "FSDP" if form != "plain" else "one process or DDP"
        reads = "DeepSpeed" if to == "deepspeed" else "FSDP" if to != "plain" else "one process or DDP"
        raise ValueError(
            f"{checkpoint}: was written by {written} and cannot go on under {reads}: optimiser states of DeepSpeed are "
            "not converted; keep the layout that it was written in, or take another output_dir"
        )


@contextmanager
def converted_weights(checkpoint: Path, tied: Mapping[str, str], to: Form) -> Iterator[Path]:
    """Yield a folder from which the weights can be loaded.

    Args:
        checkpoint: one that ``needs_conversion``.
        tied: names of weights that stand in no plain file -> under which name they do.
        to: the form that is read.
    """
    with _linked(checkpoint, (FSDP_WEIGHTS, SHARDED_WEIGHTS)) as folder:
        weights = _read_weights(checkpoint)
        whole = {**weights, **_under_all_names(weights, tied)}
        if to == "fsdp":
            torch.save(whole, folder / FSDP_WEIGHTS)
        elif to == "shards":
            _save_shards({"model": whole}, folder / SHARDED_WEIGHTS)
        elif not (folder / WEIGHTS).exists():
            own = {name: tensor.contiguous() for name, tensor in weights.items() if name not in tied}
            save_file(own, folder / WEIGHTS, metadata={"format": "pt"})
        yield folder


@contextmanager
def converted_optimiser(checkpoint: Path, groups: Sequence[Sequence[str]], to: Form) -> Iterator[Path]:
    """Yield a folder from which the optimiser's state can be loaded.

    Args:
        checkpoint: one that ``needs_conversion``.
        groups: names of the parameters of each group of the optimiser that reads it, in their order.
        to: the form that is read.

    Raises:
        ValueError: if the checkpoint's optimiser has other parameters.
    """
    form = form_of(checkpoint)
    assert form is not None
    with _linked(checkpoint, (*_OPTIMISERS.values(),)) as folder:
        path = checkpoint / _OPTIMISERS[form]
        state = _read_shards(path)["optimizer"] if form == "shards" else _load(path)
        _check_groups(path, state, groups, by_name=form != "plain")
        named = by_names(state, groups) if form == "plain" else state
        if to == "plain":
            torch.save(by_places(named, groups), folder / OPTIMISER)
        elif to == "fsdp":
            torch.save(named, folder / FSDP_OPTIMISER)
        else:
            _save_shards({"optimizer": named}, folder / SHARDED_OPTIMISER)
        yield folder


def _read_weights(checkpoint: Path) -> dict[str, Tensor]:
    if form_of(checkpoint) == "shards":
        return _read_shards(checkpoint / SHARDED_WEIGHTS)["model"]
    return load_file(checkpoint / WEIGHTS)


def _load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _read_shards(folder: Path) -> Any:
    """Return what a distributed checkpoint holds, whole; no process group is needed."""
    with tempfile.TemporaryDirectory(prefix="ptdpo-converted-") as name:
        dcp_to_torch_save(folder, Path(name) / "whole.pt")
        return _load(Path(name) / "whole.pt")


def _save_shards(content: State, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="ptdpo-converted-") as name:
        torch.save(content, Path(name) / "whole.pt")
        torch_save_to_dcp(Path(name) / "whole.pt", folder)


def by_names(state: State, groups: Sequence[Sequence[str]]) -> State:
    """Return an optimiser's state by names of parameters, given one by places."""
    names = [name for group in groups for name in group]
    return {
        "state": {names[place]: values for place, values in state["state"].items()},
        "param_groups": [
            {**given, "params": list(group)} for given, group in zip(state["param_groups"], groups, strict=True)
        ],
    }


def by_places(state: State, groups: Sequence[Sequence[str]]) -> State:
    """Return an optimiser's state by places of parameters, given one by names."""
    places = {name: place for place, name in enumerate(name for group in groups for name in group)}
    return {
        "state": {places[name]: values for name, values in state["state"].items()},
        "param_groups": [
            {**given, "params": [places[name] for name in group]}
            for given, group in zip(state["param_groups"], groups, strict=True)
        ],
    }


def _check_groups(path: Path, state: State, groups: Sequence[Sequence[str]], *, by_name: bool) -> None:
    kept = [set(group["params"]) if by_name else len(group["params"]) for group in state["param_groups"]]
    asked = [set(group) if by_name else len(group) for group in groups]
    if kept != asked:
        raise ValueError(
            f"{path}: its optimiser has other parameters than this run's, so it cannot go on in another layout; keep "
            "the layout that it was written in"
        )


def _under_all_names(weights: Mapping[str, Tensor], tied: Mapping[str, str]) -> dict[str, Tensor]:
    return {name: weights[other] for name, other in tied.items() if name not in weights}


@contextmanager
def _linked(checkpoint: Path, beside: Sequence[str]) -> Iterator[Path]:
    """Yield a folder with links to all files of a checkpoint but some."""
    with tempfile.TemporaryDirectory(prefix="ptdpo-converted-") as name:
        for path in checkpoint.iterdir():
            if path.name not in beside:
                (Path(name) / path.name).symlink_to(path.resolve())
        yield Path(name)
