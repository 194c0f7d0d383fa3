"""What is planned of a block, computing nothing, against what a real block of a real tiny model keeps and holds."""

import pytest
import torch
from PIL import Image

from ptdpo.models import flash_attention, load_model, shared_prefix
from ptdpo.models.flash_attention import sequences_of
from ptdpo.models.packed_attention import PackedRow
from ptdpo.models.shared_prefix import enable_shared_prefix, shared_hidden_states
from ptdpo.train.memory.blocks import Flash, Numbers, text_block_bytes, vision_block_bytes
from ptdpo.train.memory.sizes import published_config, sizes_of, text_blocks, vision_blocks
from ptdpo.train.memory.watched import KeptBytes, LiveBytes, autocast_as
from tests import tiny_families
from tests.models.test_shared_prefix import batch

FLOAT, MIXED = Numbers(torch.float32, torch.float32), Numbers(torch.float32, torch.bfloat16)
HALF = Numbers(torch.bfloat16, torch.bfloat16)
NOISE = Image.effect_noise((64, 48), 60).convert("RGB")


class Watched:
    """Counts what a block keeps in a forward pass of its model, and what it holds at most when it is run again."""

    def __init__(self, block):
        self.kept, self._block = 0, block
        block.register_forward_pre_hook(self._begins, with_kwargs=True)
        block.register_forward_hook(self._ends)

    def _begins(self, block, args, kwargs):
        self.states, self._rest = args[0], (args[1:], kwargs)
        self._counted = KeptBytes(beside=[args[0], *block.parameters()])
        self._counted.__enter__()

    def _ends(self, *_):
        self._counted.__exit__(None, None, None)
        self.kept = self._counted.bytes

    def run_again(self, numbers):
        """Return the most that lives in a forward and a backward pass, and in a forward pass alone."""
        args, kwargs = self._rest
        states = self.states.detach().requires_grad_()
        with LiveBytes() as both:
            with autocast_as(numbers.products):
                out = self._block.forward(states, *args, **kwargs)
            out.backward(torch.ones_like(out))
        with LiveBytes() as reading, torch.no_grad(), autocast_as(numbers.products):
            self._block.forward(states, *args, **kwargs)
        return both.peak, reading.peak


class Kernel(Flash):
    """In the place of the kernel: allocates what it allocates, and returns something."""

    @staticmethod
    def forward(ctx, *states):
        return Flash.forward(ctx, *states).fill_(0.1)


@pytest.fixture
def flash(monkeypatch):
    """Let packed rows go through a FlashAttention kernel on the CPU; returns the keys that it was given."""
    keys = []

    def with_sequences(groups, _=None):
        sizes = [(group.prompt.stop - group.prompt.start, group.lengths) for group in groups]
        return PackedRow(groups, sequences_of(sizes, torch.device("cpu")))

    def kernel(query, key, value, *_):
        keys.append(len(key))
        return Kernel.apply(query, key, value)

    monkeypatch.setattr(shared_prefix, "PackedRow", with_sequences)
    monkeypatch.setattr(flash_attention, "takes", lambda query: True)
    monkeypatch.setattr(flash_attention, "flash", kernel)
    return keys


@pytest.mark.parametrize("numbers", [FLOAT, MIXED, HALF])
@pytest.mark.parametrize("length", [10, 300])
def test_blocks_of_a_packed_row_keep_and_hold_what_is_planned(tiny_path, processor, flash, numbers, length):
    model = load_model(tiny_path, dtype=numbers.weights).train()
    assert enable_shared_prefix(model)
    sizes, text, seen = sizes_of(model.config), Watched(text_blocks(model)[0]), Watched(vision_blocks(model)[0])
    inputs, mask = batch(processor, [("what is in the top row?", [NOISE], "a " * length)] * 4)
    inputs["pixel_values"] = inputs["pixel_values"].to(numbers.weights)
    with autocast_as(numbers.products):
        assert shared_hidden_states(model, inputs, mask) is not None
    tokens, patches = text.states.size(1), len(seen.states)
    assert tokens < flash[0]
    # The vision tower's attention is the CPU's own, which shows less of what it does than the kernel's stand-in.
    for watched, planned, near in (
        (text, text_block_bytes(sizes, tokens, flash[0], numbers), 0.02),
        (seen, vision_block_bytes(sizes, patches, numbers), 0.15),
    ):
        assert planned.entry == watched.states.numel() * watched.states.element_size()
        assert planned.kept == pytest.approx(watched.kept, rel=0.02)
        peak, read = watched.run_again(numbers)
        assert planned.peak == pytest.approx(peak, rel=near)
        assert planned.read == pytest.approx(read, rel=near)


def test_the_plain_layout_keeps_a_key_for_every_head():
    sizes = sizes_of(published_config("Qwen/Qwen3-VL-2B-Thinking"))
    packed, plain = (text_block_bytes(sizes, 1000, keys, MIXED) for keys in (1000, None))
    # 16 heads of 128 numbers in the place of 8: keys and values, 2 bytes each.
    # ... less the places of the keys, 8 bytes each.
    assert plain.kept - packed.kept == 2 * (16 - 8) * 128 * 2 * 1000 - 8 * 1000


@pytest.mark.parametrize(("name", "parameters"), [("2B", 2_127_532_032), ("4B", 4_437_815_808), ("8B", 8_767_123_696)])
def test_shipped_sizes_have_the_published_number_of_parameters(name, parameters):
    for kind in ("Thinking", "Instruct"):
        assert sizes_of(published_config(f"Qwen/Qwen3-VL-{name}-{kind}")).parameters == parameters
    assert published_config("Qwen/Qwen3-VL-2") is None


def test_parts_of_a_model_are_counted_once(tiny_path):
    model = load_model(tiny_path)
    sizes = sizes_of(model.config)
    assert sizes.parameters == sum(parameter.numel() for parameter in model.parameters())
    blocks = [*text_blocks(model), *vision_blocks(model)]
    inside = sum(parameter.numel() for block in blocks for parameter in block.parameters())
    assert sizes.outside == sizes.parameters - inside
    assert sizes.block * len(text_blocks(model)) < inside


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen2_vl"])
def test_other_families(tmp_path, name):
    sizes = sizes_of(load_model(tiny_families.save_vision_model(tmp_path, name)).config)
    for planned in (text_block_bytes(sizes, 50, 80, FLOAT), vision_block_bytes(sizes, 64, FLOAT)):
        assert 0 < planned.entry < planned.kept < planned.peak
        assert planned.read < planned.peak


def test_blocks_of_several_kinds_are_refused(tmp_path):
    sizes = sizes_of(load_model(tiny_families.save_vision_model(tmp_path, "gemma3")).config)
    with pytest.raises(ValueError, match="'gemma3': its blocks are of several kinds"):
        text_block_bytes(sizes, 50, 80, FLOAT)
    assert vision_block_bytes(sizes, 64, FLOAT) is None


def test_the_kernels_backward_pass_has_sums_in_float32_and_gradients_for_every_head():
    query = torch.zeros(5, 4, 8, dtype=torch.bfloat16, requires_grad=True)
    key, value = (torch.zeros(7, 2, 8, dtype=torch.bfloat16, requires_grad=True) for _ in "kv")
    out = Flash.apply(query, key, value)
    with LiveBytes() as live:
        torch.autograd.grad(out, (query, key, value), torch.zeros_like(out))
    beside, gradients = 5 * 4 * 8 * 4 + 2 * 7 * 4 * 8 * 2, (5 * 4 + 2 * 7 * 2) * 8 * 2
    # The gradient that comes in was made within, too.
    assert live.peak == beside + gradients + 5 * 4 * 8 * 2
