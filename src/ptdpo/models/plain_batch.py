"""A batch in which every row repeats its prompt and images: which rows share them, and what belongs to a row."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

KNOWN_INPUTS = {"input_ids", "attention_mask", "pixel_values", "image_grid_thw", "mm_token_type_ids", "token_type_ids"}


class PlainBatch:
    """A batch in the plain layout, and what belongs to each of its rows.

    Args:
        model: for its positions and image settings.
        inputs: ``KNOWN_INPUTS``; prompts are padded on the left.
        length: T, how many columns at the end are responses.

    Attributes:
        prompts: [B, P] ids.
        kept: [B, P] bool, False at padding.
        responses: [B, T] ids.
    """

    def __init__(self, model: PreTrainedModel, inputs: dict[str, Tensor], length: int) -> None:
        width = inputs["input_ids"].size(1) - length
        self.model, self.inputs = model, inputs
        self.prompts, self.responses = inputs["input_ids"][:, :width], inputs["input_ids"][:, width:]
        self.kept = inputs["attention_mask"][:, :width].bool()
        self.grids = inputs.get("image_grid_thw")
        self._images = self._split_images()

    def _split_images(self) -> list[tuple[slice, slice]]:
        """Return each row's images, as slices of the grids and of the patches."""
        if self.grids is None:
            return [(slice(0, 0), slice(0, 0))] * len(self.prompts)
        config = cast(Any, self.model.config)
        patches = self.grids.prod(dim=-1).tolist()
        merged = config.vision_config.spatial_merge_size**2
        tokens = (self.prompts == config.image_token_id).sum(dim=-1).tolist()
        found, image, patch = [], 0, 0
        for wanted in tokens:
            first_image, first_patch = image, patch
            while wanted > 0:
                wanted -= patches[image] // merged
                patch, image = patch + patches[image], image + 1
            found.append((slice(first_image, image), slice(first_patch, patch)))
        return found

    def groups(self) -> list[list[int]]:
        """Return the rows of each distinct (prompt, images), in order of appearance."""
        groups: dict[tuple[int, ...], list[list[int]]] = {}
        for row, (prompt, kept) in enumerate(zip(self.prompts, self.kept, strict=True)):
            alike = groups.setdefault(tuple(prompt[kept].tolist()), [])
            for rows in alike:
                if self._same_images(rows[0], row):
                    rows.append(row)
                    break
            else:
                alike.append([row])
        return sorted(rows for alike in groups.values() for rows in alike)

    def _same_images(self, first: int, second: int) -> bool:
        if self.grids is None:
            return True
        a, b = self._images[first], self._images[second]
        pixels = self.inputs["pixel_values"]
        return torch.equal(self.grids[a[0]], self.grids[b[0]]) and torch.equal(pixels[a[1]], pixels[b[1]])

    def images_of(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return the image inputs of some rows; nothing if they have no image."""
        if self.grids is None or not any(self._images[row][0].stop > self._images[row][0].start for row in rows):
            return {}
        pixels = self.inputs["pixel_values"]
        return {
            "pixel_values": torch.cat([pixels[self._images[row][1]] for row in rows]),
            "image_grid_thw": torch.cat([self.grids[self._images[row][0]] for row in rows]),
        }

    def prompt_positions(self, rows: Sequence[int]) -> Tensor:
        """Return the positions [dimensions, rows, P] of some prompts; three dimensions for Qwen's rotary embedding."""
        kept = self.kept[rows].long()
        rope = getattr(self.model.base_model, "get_rope_index", None)
        if rope is None:
            return (kept.cumsum(dim=-1) - 1).clamp_min(0).unsqueeze(0)
        kinds = self.inputs.get("mm_token_type_ids")
        if kinds is None:
            kinds = (self.inputs["input_ids"] == cast(Any, self.model.config).image_token_id).long()
        positions, _ = rope(
            self.prompts[rows],
            mm_token_type_ids=kinds[rows, : self.prompts.size(1)],
            image_grid_thw=self.images_of(rows).get("image_grid_thw"),
            attention_mask=kept,
        )
        return positions
