"""Values as users give them, checked against type hints and ranges. No torch."""

import difflib
import enum
import math
import os
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

_MISFIT = object()
_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "nothing"}


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers from ``low`` to ``high``, with or without the two themselves."""

    low: float = -math.inf
    high: float = math.inf
    with_low: bool = True
    with_high: bool = True

    def __contains__(self, value: float) -> bool:
        above = value >= self.low if self.with_low else value > self.low
        return above and (value <= self.high if self.with_high else value < self.high)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{'at least' if self.with_low else 'above'} {self.low}"
        if self.low == -math.inf:
            return f"{'at most' if self.with_high else 'below'} {self.high}"
        return f"in {'[' if self.with_low else '('}{self.low}, {self.high}{']' if self.with_high else ')'}"


COUNT = Range(1)
NOT_NEGATIVE = Range(0)
POSITIVE = Range(0, with_low=False)
SHARE = Range(0, 1, with_low=False)


def check_range(name: str, value: Any, allowed: Range) -> None:
    """Refuse a number out of range; ``None`` is no number.

    Raises:
        ValueError: naming the setting, its value and what it must be.
    """
    if value is not None and value not in allowed:
        raise ValueError(f"{name}={value}: must be {allowed}")


def typed_value(name: str, value: Any, hint: Any) -> Any:
    """Return a value as its type hint has it: numbers given as text, as YAML leaves some, become numbers.

    Hints are whole numbers, numbers, true or false, text (or a path), nothing, literals, enumerations, sequences and
    mappings, and unions of them; under any other hint a value stays as it is.

    Raises:
        ValueError: if the value is of another type; names the setting, its value and what it must be.
    """
    typed = _typed(value, hint)
    if typed is not _MISFIT:
        return typed
    quoted = " (YAML reads a bare yes, no, on or off so: put it in quotes)" if isinstance(value, bool) else ""
    raise ValueError(f"{name}: expected {_described(hint)}, found {value!r}{quoted}")


def unknown_name(kind: str, name: Any, known: Iterable[str]) -> ValueError:
    """Return the error on a name that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return ValueError(f"unknown {kind} {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def _typed(value: Any, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        # As it is, if some member takes it so: text is not made a number where text is wanted.
        taken = [typed for typed in (_typed(value, member) for member in arguments) if typed is not _MISFIT]
        return next((typed for typed in taken if typed is value), taken[0] if taken else _MISFIT)
    if origin is Literal:
        return value if value in arguments else _MISFIT
    if hint in (int, float):
        return _number(value, hint)
    if hint is str:
        return value if isinstance(value, str | os.PathLike) else _MISFIT
    if hint in (bool, type(None)):
        return value if isinstance(value, hint) else _MISFIT
    return _structure(value, origin or hint, arguments)


def _structure(value: Any, kind: Any, arguments: Sequence[Any]) -> Any:
    if kind in (list, tuple, Sequence):
        # A tuple's hint ends in an ellipsis.
        members = [_typed(one, arguments[0] if arguments else Any) for one in value] if _is_list(value) else [_MISFIT]
        return _MISFIT if any(one is _MISFIT for one in members) else type(value)(members)
    if kind in (dict, Mapping):
        return value if isinstance(value, Mapping) else _MISFIT
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return value if isinstance(value, kind) else _MISFIT
    return value


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _number(value: Any, kind: type[int] | type[float]) -> Any:
    if isinstance(value, str):
        try:
            value = float(value) if kind is float else int(value)
        except ValueError:
            return _MISFIT
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _MISFIT
    if kind is float:
        return value if isinstance(value, int) else float(value)
    return int(value) if math.isfinite(value) and value == int(value) else _MISFIT


def _described(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_described(one) for one in arguments if one is not type(None)))
    kind = typing.get_origin(hint) or hint
    if kind in (list, tuple, Sequence):
        return "a list" + (f" ({_described(arguments[0])} each)" if arguments else "")
    if kind in (dict, Mapping):
        return "a section with keys"
    return "one of its names" if isinstance(kind, type) and issubclass(kind, enum.Enum) else _NAMES.get(kind, str(kind))
