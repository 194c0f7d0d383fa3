"""From JSON to the lines of records: what a run did not write is refused, and its reader leaves it out."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeGuard

from ptdpo.runlog.lines import GroupLine, Leading, QuestionLine, RolloutLine, TokenLine

# Beyond this a number is none that a run has measured, and may not be a float at all.
_LARGEST = 1e300


def question_line(row: Mapping[str, Any]) -> QuestionLine:
    """Return a line of ``questions``.

    Raises:
        ValueError, TypeError, KeyError: if it is none.
    """
    known = _known(QuestionLine, row)
    texts = ("id", "hint_id", "question", "answer", "context", "hint")
    _need(_whole(known["step"]) and all(isinstance(known.get(name, ""), str) for name in texts))
    images = known.get("images", ())
    _need(isinstance(images, list | tuple) and all(isinstance(name, str) for name in images))
    return QuestionLine(**known)


def group_line(row: Mapping[str, Any]) -> GroupLine:
    """Return a line of ``groups``; raises as ``question_line``."""
    known = _known(GroupLine, row)
    _need(_whole(known["step"]) and _whole(known["group"]))
    _need(all(isinstance(known[name], str) for name in ("id", "hint_id", "reader")))
    return GroupLine(**{**known, "rollouts": [_rollout_line(rollout) for rollout in known["rollouts"]]})


def _rollout_line(row: Mapping[str, Any]) -> RolloutLine:
    known = _known(RolloutLine, row)
    _need(_whole(known["rollout"]) and _whole(known["tokens"]))
    for name in ("reward", "accuracy", "advantage"):
        value = known[name]
        # Older runs wrote NaN where this one writes that there is no number.
        known[name] = None if isinstance(value, float) and not math.isfinite(value) else value
        _need(known[name] is None or _number(known[name]))
    _need(all(isinstance(known.get(name, ""), str) for name in ("response", "reason", "place", "drawn_with")))
    _need(isinstance(known["extracted"], str | None))
    return RolloutLine(**known)


def token_line(row: Mapping[str, Any]) -> TokenLine:
    """Return a line of ``tokens``; raises as ``question_line``."""
    known = _known(TokenLine, row)
    _need(all(_whole(known[name]) for name in ("step", "sampled", "group", "rollout")))
    _need(_wholes(known["ids"]))
    size = len(known["ids"])
    _need(_numbers(known["log_probs"], size) and _numbers(known["entropy"], size))
    _need(known["divergence"] is None or _numbers(known["divergence"], size))
    texts = known["texts"]
    _need(isinstance(texts, Mapping) and all(isinstance(text, str) for text in texts.values()))
    for name in ("student", "teacher"):
        known[name] = None if known.get(name) is None else _leading(known[name], size)
    return TokenLine(**known)


def _leading(row: Mapping[str, Any], size: int) -> Leading:
    leading = Leading(**_known(Leading, row))
    _need(len(leading.ids) == len(leading.probs) == size)
    pairs = zip(leading.ids, leading.probs, strict=True)
    _need(all(len(ids) > 0 and _wholes(ids) and _numbers(probs, len(ids)) for ids, probs in pairs))
    return leading


def _known(kind: type, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a row this version knows: a later one may have added keys."""
    return {field.name: row[field.name] for field in fields(kind) if field.name in row}


def _need(so: bool) -> None:
    if not so:
        raise ValueError("no line that a run wrote")


def _whole(value: object) -> bool:
    # Not bool, which is an int; a number of a step, a place or a token.
    return type(value) is int and 0 <= value < 2**63


def _number(value: object) -> TypeGuard[float]:
    return type(value) in (int, float) and -_LARGEST < value < _LARGEST  # pyright: ignore[reportOperatorIssue]


def _wholes(values: object) -> bool:
    return isinstance(values, list) and all(map(_whole, values))


def _numbers(values: object, size: int) -> bool:
    return isinstance(values, list) and len(values) == size and all(map(_number, values))
