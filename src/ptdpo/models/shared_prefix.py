"""One prompt, one image, G responses: the hidden states of a group from one packed row.

The plain layout repeats prompt and images for every response. Here each distinct prompt of a batch stands once,
followed by its responses: [prompt, response 1 .. G, next prompt, ...]. Positions are those of the plain layout, and
attention is the prompt to itself plus each response to (prompt, itself), through transformers' attention interface.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "ptdpo_shared_prefix"
# Model types whose attention, positions and images are known to fit the packed row.
SUPPORTED = ("qwen3_vl", "qwen2_5_vl", "qwen2_vl", "qwen3", "qwen2", "llama")
_KNOWN_INPUTS = {"input_ids", "attention_mask", "pixel_values", "image_grid_thw", "mm_token_type_ids", "token_type_ids"}
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Group:
    """Where one prompt and its responses lie in the packed row.

    Attributes:
        prompt: the prompt's P positions.
        slots: [G, R], the position of each response token; padding repeats the first.
        valid: [G, R] bool.
        mask: [1, 1, R, P + R] bool: a response token sees the prompt and its own response so far.
    """

    prompt: slice
    slots: Tensor
    valid: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True)
class PackedRow:
    """The layout that the attention function needs. A plain object: engines cast or split the containers they know."""

    groups: tuple[_Group, ...]


def shared_prefix_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packed: PackedRow | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend within a packed row [1, heads, L, d]; without one this is transformers' ``sdpa``."""
    if packed is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    pieces = []
    for group in packed.groups:
        q, k, v = (states[:, :, group.prompt] for states in (query, key, value))
        pieces.append(sdpa_attention_forward(module, q, k, v, None, **kwargs)[0][0])
        if group.slots.numel():
            pieces.append(_responses(module, query, key, value, group, **kwargs))
    return torch.cat(pieces).unsqueeze(0), None


def _responses(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, group: _Group, **kwargs: Any
) -> Tensor:
    """Return the attention output [tokens, heads, d] of a group's responses, one after the other."""
    own_query, own_key, own_value = (states[0][:, group.slots].transpose(0, 1) for states in (query, key, value))
    responses = len(group.slots)
    keys, values = (
        torch.cat([states[:, :, group.prompt].expand(responses, -1, -1, -1), own], dim=2)
        for states, own in ((key, own_key), (value, own_value))
    )
    return sdpa_attention_forward(module, own_query, keys, values, group.mask, **kwargs)[0][group.valid]


AttentionInterface.register(ATTENTION, shared_prefix_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def enable_shared_prefix(model: PreTrainedModel) -> bool:
    """Let a model read packed rows; other calls stay as they are. Returns whether it can; if not, logs why."""
    text = model.config.get_text_config()
    if text._attn_implementation == ATTENTION:
        return True
    reason = None
    if model.config.model_type not in SUPPORTED:
        reason = f"model type {model.config.model_type!r} is not among {', '.join(SUPPORTED)}"
    elif text._attn_implementation != "sdpa":
        reason = f"attention {text._attn_implementation!r} is not 'sdpa'"
    elif getattr(text, "use_sliding_window", False):
        reason = "it attends to a sliding window"
    if reason is not None:
        _logger.warning("%s is scored without a shared prefix: %s", type(model).__name__, reason)
        return False
    model.set_attn_implementation(ATTENTION if text is model.config else {"text_config": ATTENTION})
    return True


def shared_hidden_states(model: PreTrainedModel, inputs: dict[str, Tensor], response_mask: Tensor) -> Tensor | None:
    """Return the hidden states [B, T, H] that predict each response token, with every distinct prompt read once.

    Args:
        model: a model for which ``enable_shared_prefix`` was true.
        inputs: the plain layout: prompts padded on the left, then the T response columns.
        response_mask: [B, T] bool, which response tokens count; the states of others are arbitrary.

    Returns:
        ``None`` if nothing can be shared: no two rows have a prompt in common, or there are inputs of other kinds.
    """
    if set(inputs) - _KNOWN_INPUTS:
        return None
    plain = _Plain(model, inputs, response_mask)
    groups = plain.groups()
    if len(groups) == len(response_mask):
        return None
    packed, ids, positions, predictors = _pack(plain, groups)
    arguments: dict[str, Any] = plain.images_of([rows[0] for rows in groups])
    outputs = model.base_model(
        input_ids=ids,
        position_ids=positions,
        # Taken as a finished mask, and ignored: no mask over the packed row is ever made.
        attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=ids.device),
        use_cache=False,
        packed=packed,
        **arguments,
    )
    return outputs.last_hidden_state[0][predictors]


class _Plain:
    """A batch in the plain layout, and what belongs to each of its rows."""

    def __init__(self, model: PreTrainedModel, inputs: dict[str, Tensor], response_mask: Tensor) -> None:
        length = response_mask.size(1)
        self.model, self.inputs, self.mask = model, inputs, response_mask
        self.prompts, self.responses = inputs["input_ids"][:, :-length], inputs["input_ids"][:, -length:]
        self.kept = inputs["attention_mask"][:, :-length].bool()
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


def _pack(plain: _Plain, groups: Sequence[Sequence[int]]) -> tuple[PackedRow, Tensor, Tensor, Tensor]:
    """Return the layout, ids [1, L], positions [dimensions, 1, L] or [1, L], and predictors [B, T] of a packed row."""
    device = plain.prompts.device
    prompt_positions = plain.prompt_positions([rows[0] for rows in groups])
    ids, positions, layout, start = [], [], [], 0
    predictors = torch.zeros(plain.mask.shape, dtype=torch.long, device=device)
    lengths = plain.mask.sum(dim=-1).tolist()
    for number, rows in enumerate(groups):
        kept = plain.kept[rows[0]]
        places = prompt_positions[:, number, kept]
        ids.append(plain.prompts[rows[0], kept])
        positions.append(places)
        end = start + places.size(1)
        prompt, written = slice(start, end), [row for row in rows if lengths[row]]
        longest = max((lengths[row] for row in written), default=0)
        slots = torch.full((len(written), longest), end, dtype=torch.long, device=device)
        valid = torch.zeros(len(written), longest, dtype=torch.bool, device=device)
        for place, row in enumerate(written):
            steps = torch.arange(lengths[row], device=device)
            ids.append(plain.responses[row, plain.mask[row]])
            positions.append((places.max() + 1 + steps).expand(len(places), -1))
            slots[place, : lengths[row]], valid[place, : lengths[row]] = end + steps, True
            # The prompt's last token predicts the first of the response, and each of the response the next.
            predictors[row, plain.mask[row]] = torch.cat([steps.new_tensor([prompt.stop - 1]), end + steps[:-1]])
            end += lengths[row]
        own = torch.ones(longest, longest, dtype=torch.bool, device=device).tril()
        seen = torch.ones(longest, prompt.stop - prompt.start, dtype=torch.bool, device=device)
        layout.append(_Group(prompt, slots, valid, torch.cat([seen, own], dim=1)[None, None]))
        start = end
    packed = PackedRow(tuple(layout))
    places = torch.cat(positions, dim=1)
    return packed, torch.cat(ids).unsqueeze(0), places if len(places) == 1 else places.unsqueeze(1), predictors
