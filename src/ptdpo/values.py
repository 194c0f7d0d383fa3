"""Values as users give them: numbers with their limits, and records read by their types. No torch."""

import difflib
import enum
import functools
import math
import os
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError, core_schema

# Of every record that ``read_as`` reads: no key beside its fields.
STRICT_KEYS = ConfigDict(extra="forbid")
_OUT_OF_RANGE = "out_of_range"
_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "nothing"}


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers from ``low`` to ``high``, with or without the two themselves; in ``Annotated``, a type's limits."""

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

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, value: Any) -> Any:
        if value is not None and value not in self:
            raise PydanticCustomError(_OUT_OF_RANGE, "must be {allowed}", {"allowed": str(self)})
        return value


COUNT = Range(1)
NOT_NEGATIVE = Range(0)
POSITIVE = Range(0, with_low=False)
SHARE = Range(0, 1, with_low=False)


def _plain(value: Any) -> Any:
    """Return numpy's and torch's numbers as Python's."""
    scalar = hasattr(value, "item") and getattr(value, "ndim", 1) == 0
    return value.item() if scalar else value


def _no_flag(value: Any) -> Any:
    """Python takes true and false for 1 and 0."""
    value = _plain(value)
    if isinstance(value, bool):
        raise PydanticCustomError("flag", "not a number")
    return value


Whole = Annotated[int, BeforeValidator(_no_flag)]
# A whole number stays one.
Number = Annotated[int | Annotated[float, Field(allow_inf_nan=False)], BeforeValidator(_no_flag)]
# A limit may be infinite: there is none then.
Limit = Annotated[int | float, BeforeValidator(_no_flag)]
Count = Annotated[Whole, COUNT]
Amount = Annotated[Whole, NOT_NEGATIVE]
# Of what is sampled.
Temperature = Annotated[Number, NOT_NEGATIVE]
Nucleus = Annotated[Number, SHARE]
Flag = Annotated[bool, BeforeValidator(_plain)]
Text = Annotated[str, BeforeValidator(lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value)]
_EXACT: Mapping[Any, Any] = {int: Whole, float: Number, bool: Flag, str: Text}


def check_range(name: str, value: Any, allowed: Range) -> None:
    """Refuse a number out of range; ``None`` is no number.

    Raises:
        ValueError: naming the setting, its value and what it must be.
    """
    if value is not None and value not in allowed:
        raise ValueError(f"{name}={value}: must be {allowed}")


@functools.cache
def limits_of(kind: type) -> Mapping[str, Range]:
    """Return the limits that the fields of a record have in their types."""
    hints = typing.get_type_hints(kind, include_extras=True)
    found = {name: next(_ranges(hint), None) for name, hint in hints.items()}
    return {name: allowed for name, allowed in found.items() if allowed is not None}


def _ranges(hint: Any) -> Iterator[Range]:
    if typing.get_origin(hint) is Annotated:
        yield from (one for one in hint.__metadata__ if isinstance(one, Range))
    elif typing.get_origin(hint) in (typing.Union, types.UnionType):
        for one in typing.get_args(hint):
            yield from _ranges(one)


def check_limits(record: Any, spelled: str = "{}") -> None:
    """Refuse a record of which a number is out of the range that its field's type has.

    Args:
        record: an instance of a class with annotations.
        spelled: what messages call a field: ``{}`` is its name.

    Raises:
        ValueError: naming the field, its value and what it must be.
    """
    for name, allowed in limits_of(type(record)).items():
        check_range(spelled.format(name), getattr(record, name), allowed)


def unknown_name(kind: str, name: Any, known: Iterable[str]) -> ValueError:
    """Return the error on a name that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return ValueError(f"unknown {kind} {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def exact_type(hint: Any) -> Any:
    """Return a type hint for ``read_as``: true is no number, paths are text, NaN is refused.

    Types that are no numbers, text, flags, literals, enumerations, lists, mappings or unions of them take anything.
    """
    if hint == Limit:
        return hint
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin is Annotated:
        return Annotated[(exact_type(arguments[0]), *hint.__metadata__)]
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(lambda a, b: a | b, map(exact_type, arguments))
    if origin in (list, dict, tuple, Mapping, Sequence):
        return typing.cast(Any, origin)[tuple(one if one is ... else exact_type(one) for one in arguments)]
    known = origin is Literal or hint in (list, dict, type(None))
    return hint if known or _is_enum(hint) else _EXACT.get(hint, Any)


def read_as(kind: Any, value: Any, where: str, name: str = "") -> Any:
    """Return a value as its type has it: sections become records, and numbers given as text become numbers.

    Args:
        kind: a type hint, or a dataclass whose fields' types may be dataclasses; see ``STRICT_KEYS``.
        value: as YAML or a caller gives it.
        where: stands in front of every message, such as ``recipe.yaml: ``.
        name: of the value; empty for a record, whose fields have theirs.

    Raises:
        ValueError: naming each bad value by its path and what it must be, each unknown key with the nearest one.
    """
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        faults = [_in_words(kind, value, name, one) for one in error.errors(include_url=False)]
        # Each member of a union has its complaint about the same value.
        raise ValueError(where + "; ".join(dict.fromkeys(faults))) from None


@functools.lru_cache(maxsize=1024)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _in_words(kind: Any, value: Any, name: str, error: ErrorDetails) -> str:
    """Return a fault in our words, by the path of the field that it is in."""
    path, location = [name] if name else [], list(error["loc"])
    while location and is_dataclass(kind):
        hints, step = typing.get_type_hints(kind), location.pop(0)
        if step not in hints:
            return ": ".join([*path[:1], str(unknown_name("key", step, hints))])
        if error["type"] == "missing":
            return f"the key {step!r} is missing"
        path, kind, value = [*path, str(step)], hints[str(step)], value[step]
    if location and typing.get_origin(kind) in (dict, Mapping) and isinstance(value, Mapping) and location[0] in value:
        path, kind, value = [*path, str(location[0])], typing.get_args(kind)[1], value[location[0]]
    path_text = ".".join(path)
    if error["type"] == _OUT_OF_RANGE:
        return f"{path_text}={value}: {error['msg']}"
    if error["type"] == "finite_number" and isinstance(value, float):
        return f"{path_text}={value}: must be a finite number"
    quoted = " (YAML reads a bare yes, no, on or off so: put it in quotes)" if isinstance(value, bool) else ""
    return f"{path_text}: expected {_described(kind)}, found {value!r}{quoted}"


def _described(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Annotated:
        return _described(arguments[0])
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        names = dict.fromkeys(_described(one) for one in arguments if one is not type(None))
        if _NAMES[float] in names:
            names.pop(_NAMES[int], None)
        return " or ".join(names)
    kind: Any = typing.get_origin(hint) or hint
    if kind in (list, tuple, Sequence):
        return "a list" + (f" ({_described(arguments[0])} each)" if arguments else "")
    if kind in (dict, Mapping) or is_dataclass(kind):
        return "a section with keys"
    return "one of its names" if _is_enum(kind) else _NAMES.get(kind, str(kind))


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)
