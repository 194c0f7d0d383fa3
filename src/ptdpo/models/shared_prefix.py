"""One prompt, one image, G responses: the hidden states of a group from one packed row.

The plain layout repeats prompt and images for every response. Here each distinct prompt of a batch stands once,
followed by its responses: [prompt, response 1 .. G, next prompt, ...]. Positions are those of the plain layout, and
attention is the prompt to itself plus each response to (prompt, itself), through transformers' attention interface.
"""

import functools
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ptdpo.models.family import family_of, why_not_shared
from ptdpo.models.flash_attention import sequences_of
from ptdpo.models.packed_attention import PackedRow, lay_out, packing
from ptdpo.models.plain_batch import PlainBatch, shows_images_in_responses

_logger = logging.getLogger(__name__)


def enable_shared_prefix(model: PreTrainedModel) -> bool:
    """Let a model read packed rows; other calls stay as they are. Returns whether it can; if not, logs why."""
    text = model.config.get_text_config()
    attention, reason = packing(text._attn_implementation), why_not_shared(model.config)
    if reason is None and attention is None:
        reason = f"attention {text._attn_implementation!r} has no packed form; 'sdpa' has"
    if reason is not None:
        say_plain(type(model).__name__, reason)
        return False
    # Not by set_attn_implementation: it would ask again whether the package of the attention in use is there.
    text._attn_implementation = attention
    return True


@functools.cache
def say_plain(model: str, reason: str) -> None:
    """Log, once per reason, that a model is scored in the plain layout."""
    _logger.warning("%s is scored without a shared prefix: %s", model, reason)


def shared_hidden_states(model: PreTrainedModel, inputs: dict[str, Any], response_mask: Tensor) -> Tensor | None:
    """Return the hidden states [B, T, H] that predict each response token, with every distinct prompt read once.

    Args:
        model: a model for which ``enable_shared_prefix`` was true.
        inputs: the plain layout: prompts padded on the left, then the T response columns.
        response_mask: [B, T] bool, False only at the padding on the right, where the states are arbitrary.

    Returns:
        ``None`` if nothing can be shared: no two rows have a prompt in common, there are inputs of other kinds, images
        in responses, or the model was given another attention since.
    """
    attention = model.config.get_text_config()._attn_implementation
    if packing(attention) != attention or attention is None:
        say_plain(type(model).__name__, "its attention was changed")
        return None
    inputs = {name: value for name, value in inputs.items() if value is not None}
    if set(inputs) - family_of(model.config).inputs:
        return None
    if shows_images_in_responses(model, inputs, response_mask.size(1)):
        return None
    plain = PlainBatch(model, inputs, response_mask.size(1))
    groups = plain.groups()
    if len(groups) == len(response_mask):
        return None
    packed, ids, positions, predictors = _pack(plain, response_mask, groups)
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
    states = outputs.last_hidden_state[0]
    return states.index_select(0, predictors.flatten()).view(*predictors.shape, -1)


def _pack(
    plain: PlainBatch, kept_responses: Tensor, groups: Sequence[Sequence[int]]
) -> tuple[PackedRow, Tensor, Tensor, Tensor]:
    """Return the layout, ids [1, L], positions [dimensions, 1, L] or [1, L], and predictors [B, T] of a packed row."""
    device = plain.prompts.device
    autocast = torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type) if autocast else plain.model.dtype
    prompt_positions = plain.prompt_positions([rows[0] for rows in groups])
    ids, positions, layout, start = [], [], [], 0
    predictors = torch.zeros(kept_responses.shape, dtype=torch.long, device=device)
    lengths = kept_responses.sum(dim=-1).tolist()
    window = getattr(plain.model.config.get_text_config(), "sliding_window", None)
    for number, rows in enumerate(groups):
        kept = plain.kept[rows[0]]
        places = prompt_positions[:, number, kept]
        ids.append(plain.prompts[rows[0], kept])
        positions.append(places)
        # The attention cuts queries into blocks and leaves out the responses that ended before a block.
        written = sorted((row for row in rows if lengths[row]), key=lambda row: -lengths[row])
        group = lay_out(
            start,
            places.size(1),
            [lengths[row] for row in written],
            device,
            dtype,
            windows=() if window is None else (window,),
            image_blocks=plain.image_blocks(rows[0]),
        )
        end = group.prompt.stop
        for row in written:
            steps = torch.arange(lengths[row], device=device)
            ids.append(plain.responses[row, kept_responses[row]])
            positions.append((places.max() + 1 + steps).expand(len(places), -1))
            # The prompt's last token predicts the first of the response, and each of the response the next.
            last = steps.new_tensor([group.prompt.stop - 1])
            predictors[row, kept_responses[row]] = torch.cat([last, end + steps[:-1]])
            end += lengths[row]
        layout.append(group)
        start = end
    sizes = [(group.prompt.stop - group.prompt.start, group.lengths) for group in layout]
    packed = PackedRow(tuple(layout), sequences_of(sizes, device) if device.type == "cuda" else None)
    places = torch.cat(positions, dim=1)
    return packed, torch.cat(ids).unsqueeze(0), places if len(places) == 1 else places.unsqueeze(1), predictors
