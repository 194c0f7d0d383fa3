"""Rollouts as TRL's ``_generate`` returns them, before it batches them: one entry per row."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class TrlRollouts:
    """What TRL's ``_generate`` returns, in its order; each field has one entry per row, or is ``None`` or empty."""

    prompt_ids: list[list[int]]
    response_ids: list[list[int]]
    tool_mask: list[Any] | None
    completions: list[Any]
    log_probs: list[Any] | None
    extra_fields: dict[str, Any]
    images: list[Any] | None
    tool_images: list[Any]

    def as_tuple(self) -> tuple[Any, ...]:
        """Return the fields as TRL returns them."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def with_rows(
        self, replaced: Mapping[int, tuple["TrlRollouts", int]], *, keep_prompts: bool = False
    ) -> "TrlRollouts":
        """Return a copy in which some rows are those of other rollouts: row -> (rollouts, their row).

        Args:
            replaced: by row.
            keep_prompts: only their responses; prompts and images stay the rows' own.
        """

        def merged(name: str) -> Any:
            own = getattr(self, name)
            if not isinstance(own, list) or not own:
                return own
            return [value if row not in replaced else entry(name, *replaced[row]) for row, value in enumerate(own)]

        def entry(name: str, source: TrlRollouts, row: int) -> Any:
            values = getattr(source, name)
            # Rollouts of prompts without any image have no list of images.
            return [] if name == "images" and values is None else values[row]

        names = ["response_ids", "tool_mask", "completions", "log_probs", "tool_images"]
        names += [] if keep_prompts else ["prompt_ids", "images"]
        rows = replace(self, **{name: merged(name) for name in names})
        # TRL takes images from the data set where there are none here, and image processors refuse a batch of none.
        return rows if rows.images and any(rows.images) else replace(rows, images=None)
