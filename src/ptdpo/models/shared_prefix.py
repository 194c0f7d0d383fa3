"""One prompt, one image, G responses: the hidden states of a group from one packed row.

The plain layout repeats prompt and images for every response. Here each distinct prompt of a batch stands once,
followed by its responses: [prompt, response 1 .. G, next prompt, ...]. Positions are those of the plain layout, and
attention is the prompt to itself plus each response to (prompt, itself), through transformers' attention interface.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from ptdpo.models.plain_batch import KNOWN_INPUTS, PlainBatch

ATTENTION = "ptdpo_shared_prefix"
# Model types whose attention, positions and images are known to fit the packed row.
SUPPORTED = ("qwen3_vl", "qwen2_5_vl", "qwen2_vl", "qwen3", "qwen2", "llama")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Group:
    """Where one prompt and its responses lie in the packed row.

    Attributes:
        prompt: the prompt's P positions.
        responses: the positions of all responses, one after the other.
        shape: (G, R), how many responses there are and how long the longest is.
        padded: [G R], for each padded slot which token of ``responses`` to take; ``None`` if all are equally long.
        tokens: for each token of ``responses`` its padded slot; ``None`` likewise.
        mask: [1, 1, R, P + R] bool: a response token sees the prompt and its own response so far.
    """

    prompt: slice
    responses: slice
    shape: tuple[int, int]
    padded: Tensor | None
    tokens: Tensor | None
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
        if group.shape[1]:
            pieces.append(_responses(module, query, key, value, group, **kwargs))
    return torch.cat(pieces).unsqueeze(0), None


def _responses(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, group: _Group, **kwargs: Any
) -> Tensor:
    """Return the attention output [tokens, heads, d] of a group's responses, one after the other."""
    own_query, own_key, own_value = (_one_row_each(states, group) for states in (query, key, value))
    count = group.shape[0]
    keys, values = (
        torch.cat([states[:, :, group.prompt].expand(count, -1, -1, -1), own], dim=2)
        for states, own in ((key, own_key), (value, own_value))
    )
    out = sdpa_attention_forward(module, own_query, keys, values, group.mask, **kwargs)[0].flatten(0, 1)
    return out if group.tokens is None else out.index_select(0, group.tokens)


def _one_row_each(states: Tensor, group: _Group) -> Tensor:
    """Return the responses' states [G, heads, R, d] out of a packed row's [1, heads, L, d]."""
    # index_select, because the backward pass of advanced indexing is far slower on a CPU.
    own = states[0, :, group.responses]
    own = own if group.padded is None else own.index_select(1, group.padded)
    return own.unflatten(1, group.shape).transpose(0, 1)


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


def shared_hidden_states(model: PreTrainedModel, inputs: dict[str, Any], response_mask: Tensor) -> Tensor | None:
    """Return the hidden states [B, T, H] that predict each response token, with every distinct prompt read once.

    Args:
        model: a model for which ``enable_shared_prefix`` was true.
        inputs: the plain layout: prompts padded on the left, then the T response columns.
        response_mask: [B, T] bool, which response tokens count; the states of others are arbitrary.

    Returns:
        ``None`` if nothing can be shared: no two rows have a prompt in common, or there are inputs of other kinds.
    """
    inputs = {name: value for name, value in inputs.items() if value is not None}
    if set(inputs) - KNOWN_INPUTS:
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
    prompt_positions = plain.prompt_positions([rows[0] for rows in groups])
    ids, positions, layout, start = [], [], [], 0
    predictors = torch.zeros(kept_responses.shape, dtype=torch.long, device=device)
    lengths = kept_responses.sum(dim=-1).tolist()
    for number, rows in enumerate(groups):
        kept = plain.kept[rows[0]]
        places = prompt_positions[:, number, kept]
        ids.append(plain.prompts[rows[0], kept])
        positions.append(places)
        end = start + places.size(1)
        prompt, written = slice(start, end), [row for row in rows if lengths[row]]
        longest = max((lengths[row] for row in written), default=0)
        first = end
        for row in written:
            steps = torch.arange(lengths[row], device=device)
            ids.append(plain.responses[row, kept_responses[row]])
            positions.append((places.max() + 1 + steps).expand(len(places), -1))
            # The prompt's last token predicts the first of the response, and each of the response the next.
            predictors[row, kept_responses[row]] = torch.cat([steps.new_tensor([prompt.stop - 1]), end + steps[:-1]])
            end += lengths[row]
        own = torch.ones(longest, longest, dtype=torch.bool, device=device).tril()
        seen = torch.ones(longest, prompt.stop - prompt.start, dtype=torch.bool, device=device)
        mask = torch.cat([seen, own], dim=1)[None, None]
        padded, tokens = _padding([lengths[row] for row in written], longest, device)
        layout.append(_Group(prompt, slice(first, end), (len(written), longest), padded, tokens, mask))
        start = end
    packed = PackedRow(tuple(layout))
    places = torch.cat(positions, dim=1)
    return packed, torch.cat(ids).unsqueeze(0), places if len(places) == 1 else places.unsqueeze(1), predictors


def _padding(lengths: Sequence[int], longest: int, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    """Return which token fills each padded slot, and in which slot each token is; ``None`` twice without padding."""
    if min(lengths, default=longest) == longest:
        return None, None
    sizes = torch.tensor(lengths, device=device)
    steps = torch.arange(longest, device=device)
    valid = steps < sizes.unsqueeze(1)
    starts = (sizes.cumsum(0) - sizes).unsqueeze(1)
    # Padding takes any token of its own row: nothing ever looks at it.
    padded = starts + torch.minimum(steps, sizes.unsqueeze(1) - 1)
    return padded.flatten(), valid.flatten().nonzero().squeeze(-1)
