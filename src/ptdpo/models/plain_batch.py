"""A batch in which every row repeats its prompt and images: which rows share them, and what belongs to a row."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ptdpo.models.family import (
    PIXELS,
    TOKEN_TYPES,
    family_of,
    image_entries,
    image_token,
    own_positions,
    without_empty_images,
)


def shows_images_in_responses(model: PreTrainedModel, inputs: dict[str, Tensor], length: int) -> bool:
    """Return whether some response of a plain batch holds an image, as the answer of a tool may.

    It belongs to no prompt, so ``PlainBatch`` does not know it.
    """
    token, width = image_token(model.config), inputs["input_ids"].size(1) - length
    return token is not None and PIXELS in inputs and bool((inputs["input_ids"][:, width:] == token).any())


class PlainBatch:
    """A batch in the plain layout, and what belongs to each of its rows.

    Args:
        model: for its positions and image settings.
        inputs: what the model's family reads; prompts are padded on the left.
        length: T, how many columns at the end are responses.

    Attributes:
        prompts: [B, P] ids.
        kept: [B, P] bool, False at padding.
        responses: [B, T] ids.

    Raises:
        ValueError: if the image tokens of the prompts do not fit the image tensors.
    """

    def __init__(self, model: PreTrainedModel, inputs: dict[str, Tensor], length: int) -> None:
        width = inputs["input_ids"].size(1) - length
        self.model, self.inputs, self.family = model, inputs, family_of(model.config)
        self.prompts, self.responses = inputs["input_ids"][:, :width], inputs["input_ids"][:, width:]
        self.kept = inputs["attention_mask"][:, :width].bool()
        self._images = image_entries(self.family, model.config, inputs, self.prompts)

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
        a, b = self._images[first], self._images[second]
        return all(torch.equal(self.inputs[name][a[name]], self.inputs[name][b[name]]) for name in a)

    def images_of(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return the image inputs of some rows; nothing if they have no image."""
        names = self._images[rows[0]] if rows else {}
        held = {name: torch.cat([self.inputs[name][self._images[row][name]] for row in rows]) for name in names}
        return without_empty_images(held)

    def token_types_of(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return the token types [rows, P] of some prompts, by the names that the model gives them."""
        return {name: self.inputs[name][rows, : self.prompts.size(1)] for name in TOKEN_TYPES if name in self.inputs}

    def image_blocks(self, row: int) -> Tensor | None:
        """Return for each kept token of a prompt the number of its image, -1 for text; ``None`` if all is causal."""
        kinds = self.token_types_of([row]).get("token_type_ids")
        if not self.family.image_blocks or kinds is None:
            return None
        image = kinds[0, self.kept[row]] == 1
        begins = image & ~torch.nn.functional.pad(image, (1, 0))[:-1]
        return torch.where(image, begins.cumsum(0), -1)

    def prompt_positions(self, rows: Sequence[int]) -> Tensor:
        """Return the positions [dimensions, rows, P] of some prompts; three dimensions for Qwen's rotary embedding."""
        kept = self.kept[rows].long()
        if self.family.positions == "count":
            return (kept.cumsum(dim=-1) - 1).clamp_min(0).unsqueeze(0)
        inputs = {**self.token_types_of(rows), **self.images_of(rows)}
        return own_positions(self.model, self.prompts[rows], kept, inputs)
