"""A checkpoint of FSDP as one process or DDP reads it, and the other way round: the same numbers in other files.

Both hold whole weights. FSDP (``FULL_STATE_DICT``) has them once more in a file of its own, tied ones under every name,
and an optimiser state by names of parameters; the others have it by their places in the optimiser's groups.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

WEIGHTS = "model.safetensors"
FSDP_WEIGHTS = "pytorch_model_fsdp.bin"
OPTIMISER = "optimizer.pt"
FSDP_OPTIMISER = "optimizer.bin"

State = dict[str, Any]


def needs_conversion(checkpoint: Path, *, sharded: bool) -> bool:
    """Return whether a checkpoint was written in another layout than the one that reads it, and can be converted.

    Args:
        checkpoint: its folder.
        sharded: FSDP is to read it.
    """
    has_fsdp, has_plain = (checkpoint / FSDP_WEIGHTS).is_file(), (checkpoint / OPTIMISER).is_file()
    return (checkpoint / WEIGHTS).is_file() and (has_plain and not has_fsdp if sharded else has_fsdp)


@contextmanager
def converted_weights(checkpoint: Path, tied: Mapping[str, str], *, sharded: bool) -> Iterator[Path]:
    """Yield a folder from which the weights can be loaded.

    Args:
        checkpoint: one that ``needs_conversion``.
        tied: names of weights that stand in no file -> under which name they do.
        sharded: FSDP is to read it.
    """
    with _linked(checkpoint, (FSDP_WEIGHTS,)) as folder:
        if sharded:
            weights = load_file(checkpoint / WEIGHTS)
            torch.save({**weights, **_under_all_names(weights, tied)}, folder / FSDP_WEIGHTS)
        yield folder


@contextmanager
def converted_optimiser(checkpoint: Path, groups: Sequence[Sequence[str]], *, sharded: bool) -> Iterator[Path]:
    """Yield a folder from which the optimiser's state can be loaded.

    Args:
        checkpoint: one that ``needs_conversion``.
        groups: names of the parameters of each group of the optimiser that reads it, in their order.
        sharded: FSDP is to read it.

    Raises:
        ValueError: if the checkpoint's optimiser has other parameters.
    """
    with _linked(checkpoint, (OPTIMISER, FSDP_OPTIMISER)) as folder:
        name = OPTIMISER if sharded else FSDP_OPTIMISER
        state = torch.load(checkpoint / name, map_location="cpu", weights_only=True)
        _check_groups(checkpoint / name, state, groups, by_name=not sharded)
        convert = by_names if sharded else by_places
        torch.save(convert(state, groups), folder / (FSDP_OPTIMISER if sharded else OPTIMISER))
        yield folder


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
