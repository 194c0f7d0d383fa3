"""The memory of one GPU, term by term and phase by phase.

Counted, not guessed, are parameters and what blocks keep and hold (``ptdpo.train.memory.blocks``). Assumed is that
every row is as long as the workload says, that every rollout is tutored, that CUDA's context, communication buffers
and fragments take ``BESIDE``, and that vLLM takes what its setting says.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from ptdpo.train.layout import Layout
from ptdpo.train.memory.blocks import BlockBytes, Numbers, text_block_bytes, vision_block_bytes
from ptdpo.train.memory.sizes import ModelSizes
from ptdpo.train.setting_fields import SettingFields

BESIDE = 2.0e9
# Of ``ptdpo.algo.triton_calls``: kept shares, and a buffer of float32 logits.
_SHARES, _LOGITS = 2_700_000_000, 320_000_000
_FLOAT, _HALF, _ADAM = 4, 2, 8

Sharding = Literal["one", "ddp", "fsdp", "zero1", "zero2", "zero3"]
_ZERO = ("zero1", "zero2", "zero3")


@dataclass(frozen=True, slots=True)
class Workload:
    """How long rows are, in tokens.

    Attributes:
        prompt: images included.
        response: of a rollout.
        image: tokens of the prompt that stand for images.
    """

    prompt: int
    response: int
    image: int


@dataclass(frozen=True, slots=True)
class Run:
    """All that a run's memory depends on.

    Attributes:
        sizes: of the policy.
        settings: of the recipe.
        layout: of its rollouts.
        sharding: how weights, gradients and optimiser are parted among the GPUs.
        workload: lengths.
        memory: bytes of a GPU.
        rank: of a LoRA adapter; 0: the whole model is trained.
        taught: sizes of another model that teaches; ``None``: none does.
    """

    sizes: ModelSizes
    settings: SettingFields
    layout: Layout
    sharding: Sharding
    workload: Workload
    memory: float
    rank: int = 0
    taught: ModelSizes | None = None

    @property
    def shards(self) -> int:
        """Return among how many GPUs weights are parted."""
        return self.layout.processes if self.sharding in ("fsdp", "zero3") else 1

    @property
    def parts(self) -> int:
        """Return among how many GPUs the optimiser is parted."""
        return self.layout.processes if self.sharding in ("fsdp", *_ZERO) else 1

    @property
    def gradients(self) -> float:
        """Return the bytes of the gradients on a GPU; ZeRO-1 parts the optimiser alone."""
        return _FLOAT * self.trained / (1 if self.sharding == "zero1" else self.parts)

    @property
    def half(self) -> bool:
        """Return whether products are made in 16 bits."""
        return bool(self.settings.bf16 or self.settings.fp16)

    @property
    def numbers(self) -> Numbers:
        """Return the types that a forward pass sees: sharded weights are gathered in 16 bits."""
        products = torch.bfloat16 if self.half else torch.float32
        sees_half = self.half and self.sharding in ("fsdp", *_ZERO)
        return Numbers(torch.bfloat16 if sees_half else torch.float32, products)

    @property
    def trained(self) -> int:
        """Return how many parameters are trained."""
        return self.sizes.adapter(self.rank) if self.rank else self.sizes.parameters

    @property
    def checkpointed(self) -> bool:
        """Return whether blocks are computed again in the backward pass."""
        named = (getattr(self.settings, name, False) for name in ("activation_checkpointing", "gradient_checkpointing"))
        return any(named)

    @property
    def rows(self) -> int:
        """Return the rows of one forward and backward pass."""
        rows, budget = self.layout.rows, self.settings.micro_batch_tokens
        if budget is None:
            return rows
        within = [n for n in range(1, rows + 1) if self._tokens(n) <= budget]
        return min(rows, max([self.layout.group, *within]))

    def _tokens(self, rows: int) -> int:
        return self.prompts_of(rows) * self.workload.prompt + rows * self.workload.response

    def prompts_of(self, rows: int) -> int:
        """Return how many prompts such rows read."""
        return -(-rows // self.layout.group) if self.settings.shares_prefix else rows


@dataclass(frozen=True, slots=True)
class MemoryTerm:
    """One line of a plan: bytes of one GPU while rollouts are made, while they are scored, and in the update."""

    name: str
    rollout: float = 0.0
    scoring: float = 0.0
    update: float = 0.0


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The memory of one GPU.

    Attributes:
        run: what it is of.
        terms: by name.
    """

    run: Run
    terms: tuple[MemoryTerm, ...]

    @property
    def phases(self) -> tuple[float, float, float]:
        """Return the bytes of rollouts, scoring and update."""
        return (
            sum(term.rollout for term in self.terms),
            sum(term.scoring for term in self.terms),
            sum(term.update for term in self.terms),
        )

    @property
    def most(self) -> float:
        """Return the bytes of the phase that needs most."""
        return max(self.phases)

    @property
    def fits(self) -> bool:
        """Return whether it fits the GPU."""
        return self.most <= self.run.memory


def memory_plan(run: Run) -> MemoryPlan:
    """Return the memory that each GPU needs for a run."""
    return MemoryPlan(run, (*_held(run), *_passes(run), *_of_rollouts(run), MemoryTerm("CUDA, buffers", *[BESIDE] * 3)))


def _held(run: Run) -> list[MemoryTerm]:
    """Return what is there from the first step on, whatever the rows are."""
    every, trained = run.sizes.parameters, run.trained
    weights = (_HALF if run.sharding in _ZERO and run.half else _FLOAT) * every
    # DeepSpeed trains a float32 copy of weights that are 16 bits wide.
    masters = _FLOAT * trained if run.sharding in _ZERO and run.half else 0
    terms = [
        MemoryTerm("weights", *[weights / run.shards] * 3),
        MemoryTerm("optimiser", *[(_ADAM * trained + masters) / run.parts] * 3),
    ]
    if run.sharding == "ddp":
        terms.append(MemoryTerm("buckets of gradients (DDP)", *[_FLOAT * trained] * 3))
    if (reference := _scoring_models(run)) > 0:
        terms.append(MemoryTerm("reference and teacher", *[reference / run.shards] * 3))
    if run.settings.use_vllm and run.settings.vllm_mode == "colocate":
        room = run.settings.vllm_gpu_memory_utilization * run.memory
        kept = 0.0 if run.settings.vllm_enable_sleep_mode else room
        terms.append(MemoryTerm("vLLM", room, kept, kept))
    return terms


def _scoring_models(run: Run) -> float:
    """Return the bytes of models beside the policy, of all their shards together."""
    settings, every = run.settings, run.sizes.parameters
    each = _HALF if run.sharding in _ZERO and run.half else _FLOAT
    teaches = settings.tutors and settings.tutoring_teacher in ("frozen", "ema")
    # An adapter is switched off to get the reference.
    reference = each * every if (settings.beta != 0 or teaches) and not run.rank else 0
    average = 0
    if settings.tutors and settings.tutoring_teacher == "ema":
        average = _FLOAT * run.trained + (each * every if settings.beta != 0 and not run.rank else 0)
    return reference + average + (0 if run.taught is None else each * run.taught.parameters)


def _passes(run: Run) -> list[MemoryTerm]:
    """Return what forward and backward passes need, gradients included."""
    rows, load = run.rows, run.workload
    prompts = run.prompts_of(rows)
    tokens = prompts * load.prompt + rows * load.response
    keys = tokens + rows * load.prompt if run.settings.shares_prefix else None
    text = text_block_bytes(run.sizes, tokens, keys, run.numbers)
    seen = _vision(run, prompts)
    towers = [(text, run.sizes.text.num_hidden_layers)] + ([(seen, run.sizes.vision.depth)] if seen else [])
    kept = sum((block.entry if run.checkpointed else block.kept) * count for block, count in towers)
    read = max(block.read for block, _ in towers)
    block = max(block.peak - (0 if run.checkpointed else block.kept) for block, _ in towers)
    head, head_read = _head(run, rows * load.response, tokens)
    copies = _HALF * run.sizes.parameters if run.numbers.weights != run.numbers.products else 0.0
    gradients, gathered = run.gradients, _gathered(run)
    # Without checkpointing the copies of weights are among what blocks keep.
    at_the_head = kept + max((copies if run.checkpointed else 0.0) + head_read, head)
    # Blocks give back what they kept and leave gradients, which are there before if steps are accumulated.
    if run.layout.accumulation > 1:
        there, most = gradients, gradients + max(at_the_head, kept + block)
    else:
        there, most = max(0.0, gradients - kept), max(at_the_head, max(kept, gradients) + block)
    weights = (
        MemoryTerm("weights in 16 bits", 0, copies)
        if not gathered
        else MemoryTerm("gathered weights", 0, gathered, gathered)
    )
    return [
        weights,
        MemoryTerm("gradients", 0, 0, there),
        MemoryTerm("activations kept", 0, 0, kept),
        MemoryTerm("one block, or the head", 0, max(read, head_read), most - there - kept),
    ]


def _vision(run: Run, prompts: int) -> BlockBytes | None:
    vision = run.sizes.vision
    if vision is None or not run.workload.image:
        return None
    merged = getattr(vision, "spatial_merge_size", 1) ** 2
    return vision_block_bytes(run.sizes, prompts * run.workload.image * merged, run.numbers)


def _head(run: Run, targets: int, tokens: int) -> tuple[float, float]:
    """Return what scoring so many targets holds beside the blocks: with a backward pass, and without."""
    size, vocabulary = run.sizes.text.hidden_size, run.sizes.text.vocab_size
    state = _FLOAT if run.numbers.weights == torch.float32 else _HALF
    each = _HALF if run.half else _FLOAT
    if run.settings.head == "dense":
        return 4.0 * _FLOAT * targets * vocabulary, 2.0 * _FLOAT * targets * vocabulary
    # The last states, those that predict, the same as products take them, and in working order.
    states = tokens * size * 2 * state + targets * size * (2 * state + 2 * each)
    shares = min(_SHARES, targets * vocabulary * each)
    buffer = min(_LOGITS, targets * vocabulary * _FLOAT)
    to_weight = run.sizes.largest_matrix * (each + _FLOAT)
    return states + shares + buffer + to_weight + targets * size * each, states + shares + buffer


def _gathered(run: Run) -> float:
    """Return the bytes of weights that sharded engines make whole for a while: embeddings, head and two blocks."""
    if run.shards == 1:
        return 0.0
    whole = run.sizes.outside + 2 * run.sizes.block
    return float((_HALF if run.half else _FLOAT) * whole + _FLOAT * run.sizes.block)


def _of_rollouts(run: Run) -> list[MemoryTerm]:
    """Return what the rollouts of one generation need on a GPU until they are trained on."""
    load, settings = run.workload, run.settings
    rows = run.layout.rollouts // run.layout.processes
    terms = []
    vision = run.sizes.vision
    if vision is not None and load.image and hasattr(vision, "patch_size"):
        merged = getattr(vision, "spatial_merge_size", 1) ** 2
        patch = 3 * getattr(vision, "temporal_patch_size", 1) * vision.patch_size**2 * _FLOAT
        pixels = float(rows * load.image * merged * patch)
        terms.append(MemoryTerm("pixels of all rollouts", 0, pixels, pixels))
    if settings.tutors and settings.tutoring_use == "loss":
        each = run.sizes.text.hidden_size * (_HALF if run.half else _FLOAT) + settings.tutoring_k * 8
        there = (run.rows if settings.teacher_on_cpu else rows) * load.response * each
        terms.append(MemoryTerm("what the teacher left", 0, there, there))
    if not settings.use_vllm:
        text = run.sizes.text
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        keys = 2 * text.num_hidden_layers * text.num_key_value_heads * width * (_HALF if run.half else _FLOAT)
        copies = _HALF * run.sizes.parameters if run.half and run.shards == 1 else 0
        terms.append(MemoryTerm("keys and values of generate", rows * (load.prompt + load.response) * keys + copies))
    return terms
